"""Examples of every command, shown unchanged by its ``--help``: lines of at most 76 columns."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "deconvseg": (
        "deconvseg data check DATASET",
        "deconvseg train DATASET -o RUN --max-time 15m",
        "deconvseg predict -i SCANS -o MASKS -m RUN",
    ),
    "plan": (
        "deconvseg plan DATASET --explain",
        "deconvseg plan DATASET --max-time 1h -o plan.json",
        "deconvseg plan plan.json --explain",
    ),
    "train": (
        "deconvseg train DATASET -o RUN",
        "deconvseg train DATASET -o RUN --max-time 15m --device cpu",
        "deconvseg train DATASET -o RUN --plan plan.json --fold 1",
        "deconvseg train DATASET -o RUN --set recipe.learning_rate=1e-4",
        "deconvseg train DATASET -o RUN --image '*.png' --mask '*_mask*.png'",
        "deconvseg train DATASET -o RUN --resume",
    ),
    "crossval": (
        "deconvseg crossval DATASET -o CV --folds 5 --max-time 15m",
        "deconvseg crossval DATASET -o CV --resume",
        "deconvseg predict -i SCANS -o MASKS -m CV",
    ),
    "predict": (
        "deconvseg predict -i scan.nii.gz -o MASKS -m RUN",
        "deconvseg predict -i SCANS -o MASKS -m RUN --continue",
        "deconvseg predict -i DATASET -o MASKS -m RUN --split test",
        "deconvseg predict -i SCANS -o MASKS -m RUN1 -m RUN2 --jobs 2",
        "deconvseg predict -i SCANS -o MASKS -m RUN --threshold 0.35",
        "deconvseg predict -i SCANS -o MASKS -m RUN --precision bf16",
        "deconvseg predict -i SCANS -o MASKS -m hf://my-group/lesions",
    ),
    "export": (
        "deconvseg export RUN -o EXPORTED",
        "deconvseg export CV -o EXPORTED -i DATASET",
        "deconvseg export RUN -o EXPORTED --format openvino",
    ),
    "import-official": ("deconvseg import-official model.pt -o RUN --preset isles22",),
    "threshold": (
        "deconvseg threshold RUN",
        "deconvseg threshold RUN --set 0.35",
        "deconvseg threshold RUN --best dice --class lesion",
        "deconvseg threshold RUN --sensitivity 0.9",
    ),
    "evaluate": (
        "deconvseg evaluate -g TRUTH -p MASKS",
        "deconvseg evaluate -g DATASET -p MASKS -o MASKS --split test",
        "deconvseg evaluate -g TRUTH -p MASKS --metrics dsc,hd95,lesion_f1",
        "deconvseg evaluate -g DATASET -p MASKS --run RUN --grid plan --unit voxel",
    ),
    "report": (
        "deconvseg report RUN",
        "deconvseg report RUN --metrics MASKS/metrics.json -o page.html",
        "deconvseg report RUN1 RUN2 -o compare.html     # two runs side by side",
        "deconvseg report RUN1 RUN2 --figure cases.png --crops 1",
        "deconvseg report MASKS --images SCANS          # masks without truth",
    ),
    "reproduce": (
        "deconvseg reproduce --list",
        "deconvseg reproduce dtc/table-1 --data DATA -o TABLE --scale 0.01",
        "deconvseg reproduce dtc/table-1 --data isic=ISIC -o TABLE --datasets isic",
        "deconvseg reproduce dtc/table-1 --data DATA -o TABLE --resume",
        "deconvseg reproduce dtc/table-1 --show",
    ),
    "compare": (
        "deconvseg compare mine.json --data DATA -o TABLE",
        "deconvseg compare mine.json --data isic=ISIC -o TABLE --rows unet --resume",
    ),
    "sampling": (
        "deconvseg sampling -m RUN -i image.png -o sampling.png",
        "deconvseg sampling -m CV/fold_0 -i scan.nii.gz -o sampling.png --slice 40",
        "deconvseg sampling -m RUN -i DATASET --case case7 -o sampling.png --stage 1",
    ),
    "sources": (
        "deconvseg sources -m RUN -i image.png -o sources.png",
        "deconvseg sources -m CV/fold_0 -i scan.nii.gz -o sources.png --slice 40",
    ),
    "pack": (
        "deconvseg pack RUN -o lesions.dseg.zip",
        "deconvseg pack CV -o lesions.dseg.zip --stored bfloat16",
    ),
    "push": (
        "deconvseg hub push RUN my-group/lesions --license cc-by-4.0",
        "deconvseg hub push RUN my-group/lesions --license cc-by-4.0 --dry-run FOLDER",
    ),
    "hub": ("deconvseg hub push RUN my-group/lesions --license cc-by-4.0",),
    "models": (
        "deconvseg models",
        "deconvseg models deconver",
        "deconvseg models --pretrained",
    ),
    "complexity": (
        "deconvseg complexity --preset isles22",
        "deconvseg complexity --model deconver --size 64x64x64 --latency",
    ),
    "doctor": ("deconvseg doctor", "deconvseg doctor --json"),
    "check": (
        "deconvseg data check DATASET",
        "deconvseg data check DATASET --splits splits.json --json",
        "deconvseg data check DATASET --image '*.png' --mask '*_mask*.png'",
        "deconvseg data check DATASET --labels 1=organ --labels 2=lesion:#ff0000",
    ),
    "series": (
        "deconvseg data series STUDIES",
        "deconvseg data series STUDIES --series 'T1*' --json",
    ),
    "convert": (
        "deconvseg data convert DATASET Dataset011_Discs --to nnunet",
        "deconvseg data convert DATASET OUT --to nnunet --id 11 --name Discs",
        "deconvseg data convert DATASET Task11_Discs --to msd --link",
    ),
    "demo": (
        "deconvseg data demo DATASET",
        "deconvseg data demo DATASET --cases 10 --seed 1",
        "deconvseg data demo DATASET --like isles22",
    ),
    "card": (
        "deconvseg data card",
        "deconvseg data card isles22",
    ),
    "data": (
        "deconvseg data demo DATASET",
        "deconvseg data check DATASET",
        "deconvseg data series STUDIES",
    ),
    "nnunet upgrade": ("deconvseg nnunet upgrade nnUNetTrainer__nnUNetPlans__3d_fullres -o DTC",),
    "nnunet env": ("deconvseg nnunet env",),
    "nnunet": (
        "deconvseg nnunet plan -d 4",
        "deconvseg nnunet import nnUNetTrainer__nnUNetPlans__3d_fullres -o RUN",
    ),
    "nnunet import": (
        "deconvseg nnunet import nnUNetTrainer__nnUNetPlans__3d_fullres -o RUN",
        "deconvseg nnunet import nnUNetTrainer__nnUNetPlans__2d -o RUN --fold 0",
        "deconvseg predict -i imagesTs -o MASKS -m RUN",
    ),
    "nnunet plan": (
        "deconvseg nnunet plan -d 4",
        "deconvseg nnunet plan -d 4 --model unet --upsampling dtc+linear",
        "deconvseg nnunet plan -d 4 --model PlainConvUNet -p dtcPlans",
    ),
}
