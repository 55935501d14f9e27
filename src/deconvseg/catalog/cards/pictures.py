"""Cards of the 2D datasets: GlaS, FIVES, ISIC 2018 and BUSI."""

from deconvseg.catalog.cards.card import Card

PICTURES: tuple[Card, ...] = (
    Card(
        name="glas",
        title="GlaS",
        source="https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest/",
        licence="for research; commercial use is not allowed, and publications must cite both articles below",
        access="Download warwick_qu_dataset_released_2016_07_08.zip from the contest's page, and unpack it.",
        citation=(
            "K. Sirinukunwattana et al., Gland segmentation in colon histology images: the GlaS challenge contest, "
            "Medical Image Analysis 35:489-502, 2017, doi:10.1016/j.media.2016.08.008; K. Sirinukunwattana, D. R. J. "
            "Snead, N. M. Rajpoot, A stochastic polygons model for glandular structures in colon histology images, "
            "IEEE Transactions on Medical Imaging 34(11), 2015, doi:10.1109/TMI.2015.2433900"
        ),
        tree=tuple(
            f"Warwick QU Dataset (Released 2016_07_08)/{name}"
            for name in ("Grade.csv", "train_1.bmp", "train_1_anno.bmp", "testA_1.bmp", "testB_1.bmp")
        ),
        counts={"train": 85, "testA": 60, "testB": 20},
        masks=("train", "testA", "testB"),
        remarks=(
            "A mask numbers the glands of its image; the class of the paper is any gland.",
            "The paper pools the 165 images and divides them into five folds.",
            "The images are of few patients, whose numbers are in Grade.csv, and the folds do not separate them. The "
            "paper does not say that its folds do.",
        ),
    ),
    Card(
        name="fives",
        title="FIVES",
        source="https://doi.org/10.6084/m9.figshare.19688169.v1",
        licence="CC BY 4.0",
        access="Download the archive (.rar) from figshare without registration, and unpack it.",
        citation=(
            "K. Jin et al., FIVES: a fundus image dataset for artificial intelligence based vessel segmentation, "
            "Scientific Data 9:475, 2022, doi:10.1038/s41597-022-01564-3"
        ),
        tree=tuple(
            f"FIVES A Fundus Image Dataset for AI-based Vessel Segmentation/{part}/{holds}/1_A.png"
            for part in ("train", "test")
            for holds in ("Original", "Ground truth")
        ),
        counts={"train": 600, "test": 200},
        masks=("train", "test"),
        remarks=(
            "The paper pools the 800 images and divides them into five folds.",
            "The letter is that of the disease: A macular degeneration, D diabetic retinopathy, G glaucoma, N none. "
            "Both parts have files of the same names, so the cases are named train_1_A and test_1_A.",
        ),
    ),
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
    Card(
        name="busi",
        title="BUSI, breast ultrasound",
        source="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        licence="none stated for the files; the publisher asks to cite the article, which is CC BY 4.0",
        access="Download Dataset_BUSI.zip from the publisher's page without registration, and unpack it.",
        citation=(
            "W. Al-Dhabyani, M. Gomaa, H. Khaled, A. Fahmy, Dataset of breast ultrasound images, Data in Brief "
            "28:104863, 2020, doi:10.1016/j.dib.2019.104863"
        ),
        tree=tuple(
            f"Dataset_BUSI_with_GT/{name}"
            for name in (
                "benign/benign (1).png",
                "benign/benign (1)_mask.png",
                "benign/benign (4)_mask_1.png",
                "malignant/malignant (1).png",
                "normal/normal (1).png",
            )
        ),
        counts={"benign": 437, "malignant": 210},
        masks=("benign", "malignant"),
        remarks=(
            "17 images have masks of further lesions (_mask_1, _mask_2), which are united.",
            "133 normal images, whose masks are empty, are left out: the paper takes images of lesions.",
            "The paper trains on 520 and tests on 87 of the 647 images, without naming them; here the 87, and the 40 "
            "that are in neither, are drawn with a fixed seed.",
            "The paper resizes all images to 256 × 256, without keeping their proportions.",
        ),
    ),
)
