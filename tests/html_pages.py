"""A page as its reader and its browser find it."""

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """A page's text, pictures and tags."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.pictures, self.attributes, self.words, self.ids, self.links = [], [], [], [], [], []
        self.source = Path(path).read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.attributes += [value for _, value in attrs if value]
        if tag == "img":
            self.pictures.append(dict(attrs))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())
