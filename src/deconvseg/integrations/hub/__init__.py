"""Trained runs as repositories on the hub of Hugging Face."""

from deconvseg.integrations.hub.pushing import Pushed, push

__all__ = ["Pushed", "push"]
