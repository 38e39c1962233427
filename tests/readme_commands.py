"""The smoke form of every command that the README pages show. `tests/test_readme.py` holds both together.

A command is the key, as the page has it (without its comment). Its smoke form is the same command in a small workspace
(`tests/readme_workspace.py`), with

    replace  words of the page -> words there: placeholders such as C, and what must be small to be quick
    add      words at its end: mostly overrides that shrink the run
    slow     run with `-m slow` only
    not_run  why it is not run at all; its options and config keys are checked all the same

An option that the page shows must stay in the smoke form: only its value may be replaced. Commands that start with
torchrun or sbatch run in one process, with the words that the launcher passes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# A network and an input of a size for tests; every config of a table's row becomes it.
INPUT = "INPUT.SIZE [64,64] CODEC.SIGMA 0 MODEL.WIDTH 8 MODEL.HEAD_CHANNELS 16"
SEGMENTATION, TINY_SEGMENTATION = "configs/synthetic/segmentation.yaml", "output/segmentation/best.pt"
ONCE = "TRAIN.EPOCHS 1 TRAIN.BATCH_SIZE 8 LOADER.WORKERS 0 DEVICE cpu"
SMALL = f"{INPUT} {ONCE}"
SCENES = f"LOSS.CLASS_WEIGHTS [1.0] INPUT.CROP_SIZE [64,64] MODEL.WIDTH 8 MODEL.HEAD_CHANNELS 8 {ONCE}"
# Configs of configs/coco start from ImageNet weights.
COCO = f"{SMALL} MODEL.PRETRAINED ''"
RESNET = f"{COCO} MODEL.DEPTH 18"
LSP = "DATASET.TRAIN_RANGE [1,10] DATASET.TEST_RANGE [11,13]"

QUICKSTART, HRNET = "configs/synthetic/quickstart.yaml", "configs/coco/hrnet/hrnet_w32_256x192.yaml"
LSP_R18 = "configs/lsp/lsp_simple_baseline_r18_128x96.yaml"
TINY_LSP = "output/lsp_simple_baseline_r18_128x96/best.pt"
TINY, TINY_HRNET = "output/quickstart/best.pt", "output/hrnet_w32_256x192/best.pt"
RESULTS = "output/quickstart/test/keypoints_val2017_{}_results.json"
INSTALLS = "installs everything, which needs the network; a fresh clone's check runs it"
ITSELF = "runs the tests, this one among them"


@dataclass(frozen=True)
class Smoke:
    replace: dict[str, str] = field(default_factory=dict)
    add: str = ""
    slow: bool = False
    not_run: str = ""


SMOKE = {
    # README.md
    "psa-pose configs hrnet": Smoke(),
    "bash scripts/quickstart.sh": Smoke(not_run=INSTALLS),
    "bash scripts/test.sh": Smoke(not_run=ITSELF),
    "bash scripts/gpu_check.sh": Smoke(not_run="tests/gpu_check runs its tool, some lines and, slowly, all"),
    "python tools/gpu_check.py --only attention kernels launches psa": Smoke(
        not_run="tests/gpu_check/test_gpu_check.py runs these checks"
    ),
    "bash scripts/test.sh -m slow -k flat": Smoke(not_run=ITSELF),
    "bash scripts/test.sh -m slow -k launch": Smoke(not_run=ITSELF),
    "bash scripts/test.sh -m slow": Smoke(not_run=ITSELF),
    "python tools/compare.py A_results.json B_results.json": Smoke(
        {"A_results.json": RESULTS.format("ground_truth"), "B_results.json": RESULTS.format("detector")},
        "--resamples 20",
    ),
    "python tools/import_dataset.py LABELS --out data/mine --split 0.2": Smoke(
        {"LABELS": "data/synthetic/annotations/person_keypoints_train2017.json", "data/mine": "output/imported"},
        "--images data/synthetic/train2017",
    ),
    "python tools/infer.py --checkpoint C picture.jpg folder 'more/*.png'": Smoke(
        {"C": TINY}, "--detector-weights weights.pth", slow=True
    ),
    "python tools/infer.py --checkpoint C picture.jpg --whole-picture": Smoke({"C": TINY}),
    "python tools/infer.py --checkpoint C folder --boxes person_keypoints.json": Smoke(
        {"C": TINY, "person_keypoints.json": "detections.json"}
    ),
    "python tools/infer.py --checkpoint C video.mp4 --smooth": Smoke({"C": TINY}, "--whole-picture"),
    "python tools/infer.py --checkpoint C --camera 0 --frames 300": Smoke(
        not_run="there is no camera; tests/inference reads a file as one"
    ),
    "python tools/infer.py --checkpoint C picture.jpg --boxes boxes.json --overlay heatmaps gates": Smoke(
        {"C": TINY, "boxes.json": "detections.json", "picture.jpg": "folder"}
    ),
    "python tools/browse.py --cfg configs/synthetic/quickstart.yaml --count 12 --out samples.html": Smoke(
        {"12": "2"}, SMALL
    ),
    "python tools/export.py --checkpoint best.pt --keypoints": Smoke({"best.pt": TINY}, slow=True),
    "python tools/export.py --checkpoint best.pt --quantize static --cfg C --ap": Smoke(
        {"best.pt": TINY, "C": QUICKSTART}, SMALL, slow=True
    ),
    "python tools/benchmark.py infer --threads 2": Smoke(
        {"2": "1"},
        f"{QUICKSTART},MODEL.WIDTH,8,MODEL.HEAD_CHANNELS,16 --rounds 1 --batches 1 --ways folded",
    ),
    "python tools/train.py --cfg configs/synthetic/quickstart.yaml TRAIN.EPOCHS 20 OUTPUT_DIR output/longer": Smoke(
        {"output/longer": "output/longer_smoke"}, SMALL
    ),
    "python tools/test.py --cfg output/longer/config.yaml --checkpoint output/longer/best.pt": Smoke(),
    "torchrun --nproc_per_node=8 tools/train.py --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml "
    "TRAIN.BATCH_SIZE 16": Smoke(add=f"{COCO} OUTPUT_DIR output/torchrun", slow=True),
    "torchrun --nproc_per_node=8 tools/train.py --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml "
    "TRAIN.BATCH_SIZE 16 TRAIN.PRECISION bf16 TRAIN.EPOCHS 2 OUTPUT_DIR output/first_hour": Smoke(
        {"output/first_hour": "output/first_hour_smoke"}, COCO, slow=True
    ),
    "torchrun --nproc_per_node=8 tools/test.py --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml "
    "--checkpoint output/hrnet_w32_256x192/best.pt": Smoke(add=COCO, slow=True),
    "sbatch --nodes=2 --gpus-per-node=8 --time=24:00:00 scripts/train_slurm.sh "
    "--cfg configs/coco/hrnet/hrnet_w32_256x192.yaml TRAIN.BATCH_SIZE 8": Smoke(
        {"scripts/train_slurm.sh": "tools/train.py"}, f"{COCO} OUTPUT_DIR output/slurm", slow=True
    ),
    "torchrun --nnodes=2 --nproc_per_node=8 --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 --max-restarts=3 "
    "tools/train.py --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml TRAIN.BATCH_SIZE 8 AUTO_RESUME true": Smoke(
        add=f"{COCO} OUTPUT_DIR output/two_nodes", slow=True
    ),
    "python scripts/stress_resume.py --kills 20": Smoke(not_run="tests/test_scripts.py runs it, with two kills"),
    "python tools/benchmark.py train CONFIG CONFIG,TRAIN.PRECISION,bf16": Smoke(
        {
            "CONFIG": f"{QUICKSTART},LOADER.WORKERS,0,DEVICE,cpu",
            "CONFIG,TRAIN.PRECISION,bf16": f"{QUICKSTART},TRAIN.PRECISION,bf16,LOADER.WORKERS,0,DEVICE,cpu",
        },
        "--rounds 1 --batch 2",
        slow=True,
    ),
    "python tools/train.py --cfg configs/coco/simple_baseline/simple_baseline_r50_256x192.yaml "
    "MODEL.ATTENTION.NAME psa_p": Smoke(add=f"{RESNET} OUTPUT_DIR output/psa_p"),
    "python tools/benchmark.py attention --threads 2": Smoke(
        {"2": "1"}, "--rounds 1 --names squeeze_excitation --batch 1"
    ),
    "python tools/complexity.py --table 2": Smoke(slow=True),
    "python tools/convert.py --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml "
    "--weights pose_hrnet_w32_256x192.pth --out hrnet_w32.pt": Smoke({"hrnet_w32.pt": "converted.pt"}, COCO),
    "python tools/test.py --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml --checkpoint hrnet_w32.pt": Smoke(
        add=f"{COCO} --no-report"
    ),
    "python tools/test.py --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml --oracle targets CODEC.NAME dark": Smoke(
        add=f"{COCO} --no-report"
    ),
    "python tools/check_dataset.py --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml": Smoke(),
    "python tools/check_dataset.py --cfg configs/lsp/lsp_simple_baseline_r18_128x96.yaml": Smoke(add=LSP),
    "python tools/train.py --cfg configs/lsp/lsp_simple_baseline_r18_128x96.yaml": Smoke(
        add=f"{SMALL} {LSP} OUTPUT_DIR output/lsp"
    ),
    "python tools/test.py --cfg C --checkpoint F --baselines": Smoke(
        {"C": QUICKSTART, "F": TINY}, f"{SMALL} OUTPUT_DIR output/baselines --no-report"
    ),
    "python tools/test.py --cfg C --results F_results.json": Smoke(
        {"C": QUICKSTART, "F_results.json": RESULTS.format("ground_truth")}, SMALL
    ),
    "python tools/compare.py A_results.json B_results.json --report page.html --cfg C": Smoke(
        {
            "A_results.json": RESULTS.format("ground_truth"),
            "B_results.json": RESULTS.format("detector"),
            "C": QUICKSTART,
        },
        f"--resamples 10 {SMALL}",
    ),
    "python tools/test.py --cfg C --checkpoint F --submission my-algorithm DATASET.TEST_IMAGES test2017 "
    "DATASET.TEST_ANNOTATIONS annotations/image_info_test-dev2017.json DATASET.TEST_DETECTIONS detections.json": Smoke(
        {"C": HRNET, "F": TINY_HRNET}, COCO
    ),
    "python tools/benchmark.py threads --rounds 4 --seconds 8": Smoke(
        {"4": "1", "8": "0.2"}, "--works predict", slow=True
    ),
    "python tools/benchmark.py eval --json FILE": Smoke(add="--rounds 1 --share 0.01"),
    "python tools/benchmark.py data --cfg F": Smoke({"F": QUICKSTART}, f"--rounds 1 {SMALL}"),
    "python tools/benchmark.py codec": Smoke(add="--rounds 1 --batch 1 --size 256x192"),
    "python tools/reproduce.py --table 2 --dry-run --gpus 4": Smoke(),
    "python tools/reproduce.py --table 2 --dry-run --gpus 8 --tflops 15": Smoke(slow=True),
    "python tools/reproduce.py --table 6 --smoke": Smoke(
        add="--rows simple_baseline_r50_384x288 MODEL.WIDTH 8 MODEL.HEAD_CHANNELS 16", slow=True
    ),
    "python tools/reproduce.py --table 2 --gpus 4 --data data/coco --rows HRNet-W32 'HRNet-W32 + PSA'": Smoke(
        not_run="trains on COCO; tests/paper/test_reproduce.py runs such rows on synthetic people"
    ),
    "python tools/reproduce.py --table 6 --like-for-like --markdown-only": Smoke(),
    "python tools/reproduce.py --published downloads": Smoke(
        not_run="needs a published file; tests/paper/test_reproduce.py makes one"
    ),
    # configs/README.md
    "python tools/synthetic.py --root data/synthetic": Smoke(
        {"data/synthetic": "output/synthetic"}, "--train 2 --val 1 --workers 1 --size 96 80"
    ),
    "python tools/study.py --rows none squeeze_excitation global_context cbam non_local psa_channel "
    "psa_spatial psa_p psa_s psa_p:fig2 --seeds 0 1 2 TRAIN.EPOCHS 5 TRAIN.SCHEDULE.MILESTONES '[3,4]' "
    "TRAIN.EVAL_EVERY 5": Smoke(not_run="thirty runs; tests/scripts runs two"),
    # configs/lsp/README.md
    "python tools/study.py --cfg configs/lsp/lsp_simple_baseline_r18_128x96.yaml --rows none squeeze_excitation "
    "psa_p:released psa_p:fig2 psa_s --seeds 1 2 3 --out output/lsp_study TRAIN.EPOCHS 12 TRAIN.EVAL_EVERY 3": Smoke(
        not_run="fifteen runs of photographs; tests/scripts runs two"
    ),
    # psa_pose/attention/README.md
    "python tools/complexity.py --table 6": Smoke(),
    # psa_pose/segmentation/README.md
    "python tools/train.py --cfg configs/synthetic/segmentation.yaml": Smoke(
        add=f"{SCENES} OUTPUT_DIR output/segmentation_smoke"
    ),
    "python tools/test.py --cfg configs/synthetic/segmentation.yaml --checkpoint output/segmentation/best.pt": Smoke(
        add=SCENES
    ),
    "python tools/infer.py --checkpoint output/segmentation/best.pt picture.jpg": Smoke(),
    "python tools/export.py --checkpoint output/segmentation/best.pt": Smoke(slow=True),
    "python tools/convert.py --cfg configs/voc/deeplabv3plus_mobilenet.yaml "
    "--weights best_deeplabv3plus_mobilenet_voc_os16.pth --out vainf.pt": Smoke(),
    "python tools/test.py --cfg configs/voc/deeplabv3plus_r50.yaml --checkpoint best.pt --submission NAME "
    "DATASET.TEST_SPLIT test": Smoke(
        not_run="VOC is not there; tests/segmentation/test_submission.py makes a little of it"
    ),
    "python tools/check_dataset.py --cfg configs/synthetic/segmentation.yaml": Smoke(),
    "python tools/browse.py --cfg configs/synthetic/segmentation.yaml --out crops.html": Smoke(),
    "python tools/compare.py A/test/segmentation_val_full.npz B/test/segmentation_val_full.npz": Smoke(
        {f"{run}/test/segmentation_val_full.npz": "output/segmentation/counts.npz" for run in "AB"}, "--resamples 20"
    ),
    "python tools/complexity.py --table 3": Smoke(),
    "python tools/reproduce.py --table 3 --like-for-like --dry-run": Smoke(),
    # data/README.md
    "bash scripts/download_coco.sh": Smoke(add="--archives mirror/archives.txt --root data/fetched"),
    "bash scripts/download_coco.sh --only annotations,val": Smoke(
        add="--archives mirror/archives.txt --root data/fetched_val"
    ),
    "bash scripts/download_coco.sh --only test": Smoke(add="--archives mirror/archives.txt --root data/fetched_test"),
    "python tools/detect.py --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml --out data/coco/own_boxes.json": Smoke(
        {"data/coco/own_boxes.json": "output/own_boxes.json"},
        "--detector-weights weights.pth --device cpu DATASET.TEST_ANNOTATIONS annotations/one_image.json",
        slow=True,
    ),
    "python tools/detect.py --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml "
    "--eval-only data/coco/own_boxes.json": Smoke(),
    "python tools/test.py --cfg configs/coco/hrnet/hrnet_w32_256x192.yaml --checkpoint C "
    "DATASET.TEST_DETECTIONS own_boxes.json": Smoke({"C": TINY_HRNET}, f"{COCO} --no-report"),
    "python tools/import_dataset.py labels --out data/imported --split 0.2": Smoke(
        {"labels": "data/synthetic/annotations/person_keypoints_val2017.json"}
    ),
    "python tools/check_dataset.py --cfg mine.yaml": Smoke(),
    "python tools/browse.py --cfg mine.yaml --out samples.html": Smoke(add=SMALL),
    "python tools/infer.py --checkpoint output/mine/best.pt folder --whole-picture": Smoke(),
    "python tools/import_dataset.py output/infer/keypoints.json --images folder --out data/drafts": Smoke(
        {
            "output/infer/keypoints.json": "data/synthetic/annotations/person_keypoints_val2017.json",
            "folder": "data/synthetic/val2017",
            "data/drafts": "output/drafts",
        }
    ),
    "python tools/train.py --cfg mine.yaml": Smoke(add=f"{SMALL} OUTPUT_DIR output/mine_smoke"),
    "python tools/train.py --cfg mine.yaml INPUT.SIZE '[96,128]' CODEC.SIGMA 2 TRAIN.EPOCHS 48 TRAIN.OPTIMIZER.LR 2e-3 "
    "OUTPUT_DIR output/small": Smoke(add=f"{SMALL} OUTPUT_DIR output/mine_small"),
    "python tools/train.py --cfg mine.yaml INPUT.SIZE '[192,256]' CODEC.SIGMA 2 TRAIN.EPOCHS 45 "
    "MODEL.PRETRAINED output/small/last.pt OUTPUT_DIR output/medium": Smoke(
        {"output/small/last.pt": "output/mine_small/last.pt"}, f"{SMALL} OUTPUT_DIR output/mine_medium"
    ),
    "python tools/train.py --cfg mine.yaml MODEL.PRETRAINED output/medium/last.pt": Smoke(
        {"output/medium/last.pt": "output/mine_medium/last.pt"}, f"{SMALL} OUTPUT_DIR output/mine_large"
    ),
    "python tools/test.py --cfg mine.yaml --checkpoint output/mine/best.pt": Smoke(add=f"{SMALL} --no-report"),
}
