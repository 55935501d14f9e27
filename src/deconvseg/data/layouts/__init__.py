"""Layouts of datasets: one module per layout, shared code and recognition of the layout of a path."""

from deconvseg.data.layouts.bids import is_bids, open_bids
from deconvseg.data.layouts.brats23 import is_brats23, open_brats23
from deconvseg.data.layouts.btcv import is_btcv, open_btcv
from deconvseg.data.layouts.busi import is_busi, open_busi
from deconvseg.data.layouts.csv_layout import is_csv, open_csv
from deconvseg.data.layouts.decathlon import is_decathlon, open_decathlon
from deconvseg.data.layouts.fives import is_fives, open_fives
from deconvseg.data.layouts.folders import is_folders, open_folders
from deconvseg.data.layouts.glas import is_glas, open_glas
from deconvseg.data.layouts.isic import is_isic, open_isic
from deconvseg.data.layouts.isles22 import is_isles22, open_isles22
from deconvseg.data.layouts.nnunet import is_nnunet, open_nnunet
from deconvseg.data.layouts.registry import register_layout

# In the order of recognition: published datasets, which general layouts may read in part, come first.
register_layout(
    "isles22", looks="ISLES'22: sub-strokecase0001/ses-0001/dwi/", recognises=is_isles22, opens=open_isles22
)
register_layout("brats23", looks="BraTS'23: BraTS-GLI-00000-000/", recognises=is_brats23, opens=open_brats23)
register_layout("btcv", looks="BTCV: img/img0001.nii.gz with label/", recognises=is_btcv, opens=open_btcv)
register_layout("isic", looks="ISIC 2018: ISIC2018_Task1-2_Training_Input/", recognises=is_isic, opens=open_isic)
register_layout("glas", looks="GlaS: train_1.bmp with train_1_anno.bmp", recognises=is_glas, opens=open_glas)
register_layout("fives", looks="FIVES: train/Original/1_A.png", recognises=is_fives, opens=open_fives)
register_layout("busi", looks="BUSI: benign/benign (1).png", recognises=is_busi, opens=open_busi)
# A Decathlon dataset also has the folders of nnU-Net, so the Decathlon comes first.
register_layout("csv", looks="a .csv file with the columns image and label", recognises=is_csv, opens=open_csv)
register_layout(
    "msd",
    looks='Medical Segmentation Decathlon: dataset.json with "training"',
    recognises=is_decathlon,
    opens=open_decathlon,
)
register_layout(
    "nnunet", looks="nnU-Net raw: imagesTr/, labelsTr/, dataset.json", recognises=is_nnunet, opens=open_nnunet
)
register_layout("folders", looks="images/ with masks/ or labels/", recognises=is_folders, opens=open_folders)
register_layout("bids", looks="BIDS: sub-01/…, derivatives/", recognises=is_bids, opens=open_bids)
