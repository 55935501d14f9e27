"""Cards of the 3D datasets: ISLES'22, BraTS'23 and BTCV."""

from deconvseg.catalog.cards.card import Card

VOLUMES = (
    Card(
        name="isles22",
        title="ISLES'22",
        source="https://doi.org/10.5281/zenodo.7153326",
        licence=(
            "CC BY 4.0 by the challenge's terms of use; the organisers' repository states CC BY-SA 4.0 for its example "
            "case"
        ),
        access="Download the archive from Zenodo without registration, and unpack it.",
        citation=(
            "M. R. Hernandez Petzsche et al., ISLES 2022: A multi-center magnetic resonance imaging stroke lesion "
            "segmentation dataset, Scientific Data 9:762, 2022, doi:10.1038/s41597-022-01875-5"
        ),
        tree=(
            "ISLES-2022/sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_dwi.nii.gz",
            "ISLES-2022/sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_adc.nii.gz",
            "ISLES-2022/sub-strokecase0001/ses-0001/anat/sub-strokecase0001_ses-0001_FLAIR.nii.gz",
            "ISLES-2022/derivatives/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_msk.nii.gz",
        ),
        counts={"training": 250, "test": 150},
        masks=("training",),
        remarks=(
            "The 150 test cases are not published.",
            "The paper takes DWI and ADC; FLAIR has another grid, is not registered to them, and is left out.",
        ),
    ),
    Card(
        name="brats23",
        title="BraTS'23, adult glioma",
        source="https://www.synapse.org/Synapse:syn51156910",
        licence="that of the Synapse project, to which every user agrees at registration",
        access=(
            "Register with Synapse, request access on the project's page, and download the archives of the training "
            "and validation data of the adult glioma segmentation (task 1)."
        ),
        citation=(
            "U. Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 benchmark on brain tumor segmentation and radiogenomic "
            "classification, arXiv:2107.02314, 2021; B. H. Menze et al., The multimodal brain tumor image segmentation "
            "benchmark (BRATS), IEEE Transactions on Medical Imaging 34(10), 2015"
        ),
        tree=tuple(
            "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-00000-000/"
            f"BraTS-GLI-00000-000-{sequence}.nii.gz"
            for sequence in ("t1n", "t1c", "t2w", "t2f", "seg")
        ),
        counts={"training": 1251, "validation": 219},
        masks=("training",),
        remarks=(
            "The masks of the validation cases are not published.",
            "Labels: 1 necrotic tumour core (NCR), 2 oedema (ED), 3 enhancing tumour (ET). The paper's classes are the "
            "regions WT (1, 2, 3), TC (1, 3) and ET (3).",
            "A second number after the subject's (-000, -001) is a further time point, which no split separates.",
        ),
    ),
    Card(
        name="btcv",
        title="BTCV, abdomen",
        source="https://www.synapse.org/Synapse:syn3193805",
        licence="that of the Synapse project, to which every user agrees at registration",
        access="Register with Synapse, join the challenge, and download Abdomen/RawData.zip.",
        citation=(
            "B. Landman, Z. Xu, J. E. Iglesias, M. Styner, T. R. Langerak, A. Klein, MICCAI multi-atlas labeling "
            "beyond the cranial vault: workshop and challenge, 2015"
        ),
        tree=(
            "RawData/Training/img/img0001.nii.gz",
            "RawData/Training/label/label0001.nii.gz",
            "RawData/Testing/img/img0061.nii.gz",
        ),
        counts={"training": 30, "testing": 20},
        masks=("training",),
        remarks=(
            "The training cases have the numbers 1 to 10 and 21 to 40, the test cases 61 to 80. The masks of the test "
            "cases are not published.",
            "The paper trains on 18 of the 30 and tests on 12, without naming them. The 12 test cases are those of "
            "TransUNet (lists_Synapse/test_vol.txt), the usual split: 1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36 and 38.",
        ),
    ),
)
