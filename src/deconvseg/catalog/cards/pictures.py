"""Cards of the 2D datasets: ISIC 2018."""

from deconvseg.catalog.cards.card import Card

PICTURES: tuple[Card, ...] = (
    Card(
        name="isic",
        title="ISIC 2018, task 1",
        source="https://challenge.isic-archive.com/data/#2018",
        licence="stated for each file on the publisher's page; look there before use",
        access="Download inputs and ground truths of all three parts of task 1, without registration, and unpack them.",
        citation=(
            "N. Codella et al., Skin lesion analysis toward melanoma detection 2018: a challenge hosted by the "
            "International Skin Imaging Collaboration (ISIC), arXiv:1902.03368, 2019; P. Tschandl, C. Rosendahl, "
            "H. Kittler, The HAM10000 dataset, Scientific Data 5:180161, 2018"
        ),
        tree=(
            "ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg",
            "ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png",
        ),
        counts={"training": 2594, "validation": 100, "test": 1000},
        masks=("training", "validation", "test"),
        remarks=(
            "The paper pools the three parts and divides the 3,694 images into 2,600 and 1,094 test images, without "
            "naming them; here the test images are drawn with a fixed seed.",
            "The folders of the other parts have Validation or Test in place of Training.",
            "The paper resizes all images to 256 × 256, without keeping their proportions.",
        ),
    ),
)
