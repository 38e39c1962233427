"""The schema: every option, its default and what it means. A value's type here is the type it must have."""

from __future__ import annotations

from yacs.config import CfgNode as Node


def default_config() -> Node:
    """A fresh, unfrozen config that holds every key. The defaults are those of HRNet-W32 on COCO, 256x192."""
    c = Node()
    # What is learned: "pose", the keypoints of persons, or "segmentation", the class of every pixel. A key that says
    # which of them it is of is not read by the other.
    c.TASK = "pose"
    # Where checkpoints, log, metrics, pictures and results go; {config} is the name of the config file.
    c.OUTPUT_DIR = "output/{config}"
    # Seeds the weights, the order of the samples and every augmentation.
    c.SEED = 0
    # "auto" (a GPU if there is one), "cpu" or "cuda".
    c.DEVICE = "auto"
    # What fp32 means on a GPU, and how its convolutions are chosen; a CPU reads none of it.
    c.GPU = Node()
    # Matrix products of fp32 numbers in TF32: faster, with 10 bits after the point instead of 23. False is PyTorch's.
    c.GPU.TF32_MATMUL = False
    # Convolutions likewise. True is PyTorch's own default: write false where fp32 has to be fp32.
    c.GPU.TF32_CONV = True
    # cuDNN tries its algorithms on the first batch of each shape and keeps the fastest: true, false, or "auto": in the
    # steps of training, and not in an evaluation, whose pictures may have many shapes.
    c.GPU.CUDNN_BENCHMARK = "auto"
    # Training replays the network's forward and backward pass from CUDA graphs: a GPU does not wait for a host that
    # launches thousands of kernels. It needs whole batches (TRAIN.ACCUMULATE 1), and keeps the memory of its passes.
    c.GPU.CUDA_GRAPHS = False
    # psa_p as released takes eight Triton kernels a block, forward and backward, in place of PyTorch's 47; false, or
    # without Triton, a C compiler or an Ampere GPU: PyTorch's.
    c.GPU.FUSED_PSA = True
    # Go on with the run in OUTPUT_DIR if there is one, as --resume does: for jobs that a launcher restarts by itself.
    c.AUTO_RESUME = False

    c.DATASET = Node()
    # Folder that the paths below are relative to.
    c.DATASET.ROOT = "data/coco"
    # COCO keypoint annotations to train on.
    c.DATASET.TRAIN_ANNOTATIONS = "annotations/person_keypoints_train2017.json"
    # Folder of their images.
    c.DATASET.TRAIN_IMAGES = "train2017"
    # First and last image to train on, counted from 1 in the order of TRAIN_ANNOTATIONS; (0, 0) takes all.
    c.DATASET.TRAIN_RANGE = (0, 0)
    # COCO keypoint annotations to evaluate on.
    c.DATASET.TEST_ANNOTATIONS = "annotations/person_keypoints_val2017.json"
    # Folder of their images; its last part is the name of the split in tables and files.
    c.DATASET.TEST_IMAGES = "val2017"
    # First and last image to evaluate on, as TRAIN_RANGE; they follow the split's name in tables and files.
    c.DATASET.TEST_RANGE = (0, 0)
    # Person boxes of a detector on the images to evaluate on (COCO result format); "" when there are none.
    c.DATASET.TEST_DETECTIONS = ""
    # Form of the annotation files: "coco"; "mpii": the JSON lists of HRNet's code, scored by PCKh; or "lsp": joints.mat
    # of Leeds Sports Pose or its extended set, scored by PCK@0.2 beside AP.
    # segmentation: "voc" (VOCdevkit/VOC2012), "cityscapes" (its folders), "cityscapes_list" (a list of HRNet's form),
    # "folder" (images, and index PNGs of the same names), or "synthetic", which is drawn where it is not there.
    c.DATASET.FORMAT = "coco"
    # mpii: gt_valid.mat, with the head boxes of TEST_ANNOTATIONS' persons; "" otherwise.
    c.DATASET.TEST_HEADS = ""
    # The keypoints: "coco", "mpii", "lsp", "annotations" (names and limbs from the categories of TEST_ANNOTATIONS,
    # sigmas by default), or the path of a YAML file that names them; psa_pose/data/README.md says what is in it.
    c.DATASET.SKELETON = "coco"
    # Name or id of the persons' category; "" takes the one that has keypoints, whatever its id.
    c.DATASET.CATEGORY = ""
    # A camera's note (EXIF) which way up a photograph is: "auto" follows it where the annotations state the size of the
    # upright picture; "ignore": pixels as stored, as published for COCO; "apply": always upright.
    c.DATASET.EXIF = "auto"
    # voc, cityscapes, synthetic: the split to train on, such as "train_aug" or "trainval"; cityscapes_list: the list.
    # A folder's images are in TRAIN_IMAGES.
    c.DATASET.TRAIN_SPLIT = "train"
    # The split, or list, to test on; a folder's images are in TEST_IMAGES.
    c.DATASET.TEST_SPLIT = "val"
    # folder: index PNGs of TRAIN_IMAGES.
    c.DATASET.TRAIN_LABELS = "labels/train"
    # folder: index PNGs of TEST_IMAGES.
    c.DATASET.TEST_LABELS = "labels/val"
    # cityscapes: "gtFine" or "gtCoarse".
    c.DATASET.LABELS = "gtFine"
    # segmentation: what the labels mean: "voc", "cityscapes", "synthetic", or a YAML file of names and colours.
    c.DATASET.CLASSES = "voc"
    # "raise": an image or annotation that cannot be used ends the run; "skip": it is left out, counted and logged.
    c.DATASET.ON_ERROR = "raise"

    c.INPUT = Node()
    # Width and height, pixels: of the person crop; in segmentation, of the image that a network's cost is counted for.
    c.INPUT.SIZE = (192, 256)
    # Width and height of the heatmaps, pixels; (0, 0) takes a quarter of INPUT.SIZE, which is what the networks give.
    c.INPUT.HEATMAP_SIZE = (0, 0)
    # segmentation: width and height of a training crop, pixels; (0, 0) takes INPUT.SIZE.
    c.INPUT.CROP_SIZE = (0, 0)
    # The crop spans the box, brought to the crop's aspect ratio, times this.
    c.INPUT.PADDING = 1.25
    # Order of the crop's channels: "rgb" or "bgr". It belongs to the trained model and is kept in its checkpoint.
    c.INPUT.CHANNEL_ORDER = "rgb"
    # Mean of pixel / 255, by channel index.
    c.INPUT.MEAN = (0.485, 0.456, 0.406)
    # Standard deviation of pixel / 255, by channel index.
    c.INPUT.STD = (0.229, 0.224, 0.225)

    c.MODEL = Node()
    # "simple_baseline" (ResNet and three transposed convolutions), "hrnet", "hourglass" (stacked) or "cpn" (cascaded
    # pyramid network on a ResNet). segmentation: "deeplabv3plus" on BACKBONE, "hrnetv2", "hrnet_ocr", or
    # "hrnet_ocr_hmsa" (OCR at several scales, joined by learned attention).
    c.MODEL.NAME = "hrnet"
    # simple_baseline, cpn: 18, 34, 50, 101 or 152 layers of the ResNet.
    c.MODEL.DEPTH = 50
    # Channels of each transposed convolution (simple_baseline), of each pyramid level (cpn, even), of the branches and
    # the decoder of deeplabv3plus, or of the keys of OCR.
    c.MODEL.HEAD_CHANNELS = 256
    # Channels of hrnet's finest branch (32 and 48 are published), of the ResNet's stem in simple_baseline and cpn (64),
    # or of hourglass's stacks (256, a multiple of 4); 0 takes 32, 64 and 256, in segmentation 48 for HRNet.
    c.MODEL.WIDTH = 0
    # hourglass: number of hourglasses, one behind the other; in training each has its own loss.
    c.MODEL.STACKS = 8
    # Weights to start from: "" (none), "imagenet" (torchvision's, downloaded; simple_baseline and cpn), or the path of
    # a checkpoint: of ours, or in a layout of psa_pose/checkpoints/README.md. Attention that it lacks starts untrained.
    # Of a checkpoint of ours on other keypoints, those of equal name start from their own rows of the last layers.
    c.MODEL.PRETRAINED = ""
    # deeplabv3plus: "mobilenet_v2", "resnet18", "resnet34", "resnet50" or "resnet101".
    c.MODEL.BACKBONE = "resnet50"
    # deeplabv3plus: by what the deepest features are smaller than the image, 16 or 8.
    c.MODEL.OUTPUT_STRIDE = 16
    # deeplabv3plus: share of a batch in the running statistics of the trunk's batch norms; the head's have 0.1.
    c.MODEL.BACKBONE_BN_MOMENTUM = 0.01
    # segmentation: number of classes, which has to be that of DATASET.CLASSES.
    c.MODEL.NUM_CLASSES = 21
    # Keep features in channels-last order: the same figures up to rounding; usually faster on a CPU, and on a GPU in
    # bf16 or fp16. true, false, or "auto": on a GPU where TRAIN.PRECISION is bf16 or fp16.
    c.MODEL.CHANNELS_LAST = "auto"
    # Number of keypoints; 0 takes the skeleton's (DATASET.SKELETON), and any other number than that is refused.
    c.MODEL.NUM_JOINTS = 0
    c.MODEL.ATTENTION = Node()
    # Block after the first 3x3 convolution of the residual blocks: "none" or a name of psa_pose.attention.
    c.MODEL.ATTENTION.NAME = "none"
    # "all" residual blocks, or the "basic" blocks only (the HRNet rows of the paper's Tables 2 and 5). In a MobileNet
    # "all" depthwise convolutions, the "outputs" of the residual blocks, or the "inputs" of the first three blocks.
    c.MODEL.ATTENTION.WHERE = "all"
    # PSA only: spatial gate "eq3", "fig2" or "released"; "" takes the form that the name stands for.
    c.MODEL.ATTENTION.SPATIAL = ""
    # PSA only: evaluate the products in the written order, for comparison; the default re-associates them.
    c.MODEL.ATTENTION.DIRECT = False

    c.CODEC = Node()
    # How keypoints become heatmaps and back: "standard", "dark", "udp_gaussian" or "udp_offset".
    c.CODEC.NAME = "standard"
    # Standard deviation of the target Gaussian, heatmap pixels; 0 takes 2 per 48 pixels of heatmap width.
    c.CODEC.SIGMA = 0.0
    # Side of the blur kernel of decoding, heatmap pixels, odd; 0 takes the published 11 (23 for udp_offset).
    c.CODEC.BLUR = 0

    c.LOSS = Node()
    # segmentation, of the final map: "cross_entropy", "ohem" (of the hard pixels), "focal", or "rmi" (region mutual
    # information and binary cross entropy). Earlier maps have cross entropy; with rmi, its binary form.
    c.LOSS.NAME = "cross_entropy"
    # The weight of each of the network's maps in the sum, auxiliary ones first: [0.4, 1] for OCR, [0.4, 0.05, 0.05, 1]
    # for hrnet_ocr_hmsa.
    c.LOSS.OUTPUT_WEIGHTS = (1.0,)
    # cross_entropy, ohem: a weight per class; a single one weighs all alike.
    c.LOSS.CLASS_WEIGHTS = (1.0,)
    # cross_entropy, focal: ignored pixels count as zeros in the mean; ohem: in that of the earlier maps, as published.
    c.LOSS.OVER_ALL_PIXELS = False
    # ohem: pixels whose class has a lower probability are hard.
    c.LOSS.OHEM_THRESHOLD = 0.9
    # ohem: at least so many pixels of a part of a batch count, whatever their probability.
    c.LOSS.OHEM_KEPT = 131072
    # focal: the exponent of 1 - p.
    c.LOSS.FOCAL_GAMMA = 2.0
    # rmi: the share of the binary cross entropy, 0 to 1.
    c.LOSS.RMI_BCE = 0.5

    c.TRAIN = Node()
    # Persons, or images, per step and process; the effective batch is this times the number of processes.
    c.TRAIN.BATCH_SIZE = 32
    # Passes over the training persons.
    c.TRAIN.EPOCHS = 210
    # Length of the run in steps, for recipes that are no whole number of epochs; TRAIN.EPOCHS is then left at its
    # default and not read. 0: TRAIN.EPOCHS counts.
    c.TRAIN.STEPS = 0
    # Evaluate and write the `best` checkpoint after every n epochs, and after the last.
    c.TRAIN.EVAL_EVERY = 10
    # Stop after n evaluations in a row without a better score; 0: train to the end. A schedule is then cut off where it
    # stands: give it a rate that is low enough by then, or more patience than one of its steps lasts.
    c.TRAIN.PATIENCE = 0
    # Read the loss from the device and log it every n steps.
    c.TRAIN.LOG_EVERY = 10
    # Write the `last` checkpoint also after every n steps of the run, so that it can go on in the middle of an epoch;
    # 0: only at the end of an epoch, and when the run is asked to stop.
    c.TRAIN.SAVE_EVERY = 0
    # Keep the checkpoints of the last n epochs too (epoch_0001.pt ...); 0: `last` and `best` only.
    c.TRAIN.KEEP_EPOCHS = 0
    # Where else the metrics go: "none", "wandb" or "mlflow", each of which is an extra to install (pip install
    # "psa_pose[wandb]"). Their own environment variables (WANDB_MODE, MLFLOW_TRACKING_URI) say where that is.
    c.TRAIN.TRACKER = "none"
    # Write the annotation ids that each step was trained on to records.<rank>.jsonl.
    c.TRAIN.LOG_RECORDS = False
    # What the network computes in: "fp32", "bf16", or "fp16" (GPU only, with scaled gradients). Weights stay in fp32.
    c.TRAIN.PRECISION = "fp32"
    # Compile the network (torch.compile): the first steps take minutes, the others less time.
    c.TRAIN.COMPILE = False
    # BatchNorm over the batch of all processes together; on GPUs only.
    c.TRAIN.SYNC_BATCHNORM = False
    # Forward and backward in n parts of BATCH_SIZE: less memory and the same gradient, but BatchNorm sees the parts.
    c.TRAIN.ACCUMULATE = 1
    # Scale the gradient down to this norm where it is longer; 0: never.
    c.TRAIN.CLIP_GRAD_NORM = 0.0
    # Decay per step of a moving average of the weights, which is then evaluated and saved instead of them (0.9998, say;
    # less in the first steps); 0: no average.
    c.TRAIN.EMA = 0.0
    # Modules that stay as they are, their BatchNorm statistics too: name prefixes with commas between, "conv1,layer1".
    c.TRAIN.FREEZE = ""
    # All BatchNorm layers keep the statistics that they start with; their weights are trained.
    c.TRAIN.FREEZE_BATCHNORM = False
    # Only the n joints of a person with the largest error count in the loss of the final maps (online hard keypoint
    # mining; 8 is cpn's); 0 takes all joints. Earlier maps of hourglass and cpn keep the plain loss.
    c.TRAIN.OHKM_TOPK = 0
    c.TRAIN.OPTIMIZER = Node()
    # "adam", "adamw" or "sgd".
    c.TRAIN.OPTIMIZER.NAME = "adam"
    # Learning rate after warm-up, for the effective batch as it is: never scaled silently.
    c.TRAIN.OPTIMIZER.LR = 1e-3
    # The effective batch that LR was chosen for: LR is multiplied by effective batch / this and logged; 0: LR as it is.
    c.TRAIN.OPTIMIZER.SCALE_LR_FROM = 0
    # L2 penalty (adam, sgd) or decoupled decay (adamw) of every weight with two or more dimensions.
    c.TRAIN.OPTIMIZER.WEIGHT_DECAY = 0.0
    # sgd only.
    c.TRAIN.OPTIMIZER.MOMENTUM = 0.9
    # segmentation: LR of deeplabv3plus's trunk is that of the rest times this.
    c.TRAIN.OPTIMIZER.BACKBONE_LR = 1.0
    # segmentation: biases and norms decay too, as in the published recipes.
    c.TRAIN.OPTIMIZER.DECAY_ALL = False
    c.TRAIN.SCHEDULE = Node()
    # "multistep"; "cosine": half a cosine wave from LR at the first step to 0 after the last; or "poly": LR times
    # (1 - step / steps of the run) ** POWER.
    c.TRAIN.SCHEDULE.NAME = "multistep"
    # multistep: numbers of complete epochs after which the learning rate is multiplied by GAMMA.
    c.TRAIN.SCHEDULE.MILESTONES = (170, 200)
    # multistep: factor of the learning rate at each milestone.
    c.TRAIN.SCHEDULE.GAMMA = 0.1
    # poly: exponent of the fall; 1 is a straight line.
    c.TRAIN.SCHEDULE.POWER = 0.9
    # cosine, poly: no learning rate falls below this.
    c.TRAIN.SCHEDULE.MIN_LR = 0.0
    # cosine, poly: one rate for all steps of an epoch.
    c.TRAIN.SCHEDULE.PER_EPOCH = False
    # Steps over which the learning rate rises linearly from LR / (WARMUP_STEPS + 1) to LR.
    c.TRAIN.SCHEDULE.WARMUP_STEPS = 0

    c.AUGMENT = Node()
    # Scale of the crop: clip(1 + SCALE * normal, 1 - SCALE, 1 + SCALE).
    c.AUGMENT.SCALE = 0.35
    # Rotation of the crop, degrees: ROTATION * normal, clipped at twice ROTATION.
    c.AUGMENT.ROTATION = 45.0
    # Probability of a rotated crop.
    c.AUGMENT.ROTATION_PROB = 0.6
    # Probability of a mirrored crop.
    c.AUGMENT.FLIP_PROB = 0.5
    # Probability of a crop of one half of the body.
    c.AUGMENT.HALF_BODY_PROB = 0.3
    # Half-body crops are for persons with more labelled joints than this.
    c.AUGMENT.HALF_BODY_JOINTS = 8
    # Shift of the crop: up to this share of its width and height, drawn uniformly.
    c.AUGMENT.SHIFT = 0.0
    # Greatest change of brightness, contrast and saturation (0.3: factors of 0.7 to 1.3); in segmentation also of hue,
    # in turns.
    c.AUGMENT.COLOR = 0.0
    # Probability of a blurred crop: means over squares of 3 pixels to 3 % of its height.
    c.AUGMENT.BLUR_PROB = 0.0
    # Probability of a crop that went through a JPEG of quality 20 to 80.
    c.AUGMENT.JPEG_PROB = 0.0
    # Probability of one to three patches of one colour over the body; the joints beneath are still to be found.
    c.AUGMENT.DROPOUT_PROB = 0.0

    # segmentation: least and greatest scale of the picture in a crop, drawn uniformly.
    c.AUGMENT.SCALE_RANGE = (0.5, 2.0)
    # segmentation: scales are the least one plus multiples of this; 0: any.
    c.AUGMENT.SCALE_STEP = 0.0
    # segmentation: probability of a crop about a class drawn uniformly instead of any crop of the sample's picture.
    c.AUGMENT.CLASS_UNIFORM_PROB = 0.0
    # Side of the tiles in which classes are looked for, pixels.
    c.AUGMENT.CLASS_UNIFORM_TILE = 1024
    # segmentation, label beyond the picture: "ignore", or "background", the published choice for deeplabv3plus, which
    # teaches class 0 there.
    c.AUGMENT.PAD_LABEL = "ignore"

    c.TEST = Node()
    # Persons per step and process.
    c.TEST.BATCH_SIZE = 32
    # Average the heatmaps with those of the mirrored crop.
    c.TEST.FLIP = True
    # What the network computes in: "fp32", "bf16", or "fp16" (GPU only).
    c.TEST.PRECISION = "fp32"
    # Person boxes to evaluate on: "ground_truth", "detector", or "auto": both, as far as they are there.
    c.TEST.BOXES = "auto"
    # Detector boxes with a lower score are not used.
    c.TEST.BOX_SCORE = 0.0
    # Keypoints with a higher score count in the instance score: box score times their mean.
    c.TEST.KEYPOINT_SCORE = 0.2
    # Object keypoint similarity above which the weaker of two persons is dropped.
    c.TEST.OKS_NMS = 0.9
    # segmentation, how the network is asked, each with its own row; the best checkpoint is chosen by the first: "crop"
    # (short side to CROP_SIZE, scored on the centre alone), "full" (the picture as it is), "flip" (full, averaged with
    # its mirror), "ms_flip" (SCALES, mirrored too), "hmsa" (full, scales joined by hrnet_ocr_hmsa itself).
    c.TEST.PROTOCOLS = ("full",)
    # ms_flip, hmsa: scales of the picture; hmsa's have 1 among them.
    c.TEST.SCALES = (0.5, 1.0, 2.0)
    # crop: side of the square, pixels.
    c.TEST.CROP_SIZE = 513
    # ms_flip: long side of the picture at scale 1, pixels; 0: its own.
    c.TEST.BASE_SIZE = 0
    # ms_flip, above scale 1: width and height of sliding windows, pixels; (0, 0): the picture is seen whole.
    c.TEST.WINDOW = (0, 0)
    # Steps of the windows, pixels; (0, 0): side by side.
    c.TEST.STEP = (0, 0)
    # ms_flip: what is added up over scales and windows: "probabilities", "logits", or their "exp", as in HRNet's code.
    c.TEST.JOIN = "probabilities"
    # All but ms_flip: pictures are padded with the mean colour to multiples of this; 1: not at all.
    c.TEST.PAD_TO = 1

    c.LOADER = Node()
    # Processes that read and crop images for each process that trains or tests: a number, 0 does it in the main
    # process, or "auto": the cores divided by the processes of this machine, 16 at most.
    c.LOADER.WORKERS = "auto"
    # Training: keep the persons of an image in one batch, so that it is decoded once for them. Faster where reading
    # images is what a step waits for; the persons of a batch, and its BatchNorm statistics, are then less independent.
    c.LOADER.GROUP_IMAGES = False
    # Workers only read the files; JPEGs are decoded and cropped on the device of the network, once per image and batch.
    # For a GPU that waits for few CPU cores; crops differ from the CPU's by a grey level here and there.
    c.LOADER.DEVICE_DECODE = False
    return c
