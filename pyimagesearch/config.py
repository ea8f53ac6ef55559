"""The settings to edit: which recipe runs, where files go, and one row per tutorial.

recipe.py explains every field of a row.
"""

from dataclasses import replace
from pathlib import Path

from pyimagesearch.recipe import (
    Augmentation,
    Download,
    Head,
    Phase,
    Recipe,
    Regression,
    Split,
    checked,
    checked_settings,
)

RECIPE = "food5k"  # the row that a script uses unless --recipe names another

# Folders. The photos of a download are in its row's `source`.
DATASET_DIR = Path("dataset")  # BASE_PATH in the posts: dataset/<recipe>/<split>/<class>/
OUTPUT_DIR = Path("output")  # BASE_CSV_PATH in the posts: output/<recipe>/
TRAIN, VAL, TEST = "training", "validation", "evaluation"  # TRAIN, VAL, TEST in the posts
SPLITS = (TRAIN, VAL, TEST)

WEIGHTS = "imagenet"  # or the path of a .weights.h5 file for the backbone
# The seed of everything random: how photos are divided into splits, the initial weights of the
# head, the augmentation, the order of the photos. If you change it, photos that are divided already
# stay in their splits; build_dataset.py --force divides them again.
SEED = 42
# "float32", "mixed_float16", "mixed_bfloat16", or "auto": the fastest one for this machine.
PRECISION = "auto"
# How many of its GPUs train.py computes on: "all", or a number. docs/several_gpus.md.
GPUS = "all"

# The most iterations of logistic regression. scikit-learn's default, 100, can end too early.
MAX_ITERATIONS = 1000

# If a recipe has views="auto", a phase on a CPU uses this many augmented versions ("views") of each
# photo, and shares some of them with the next phase. Measured on 1,000 photos of ten dishes, with
# 25 + 10 epochs, 750 validation and 600 evaluation photos: val_accuracy 0.599 after the warm-up
# (mean of nine seeds) and 0.678 after the second phase (three seeds), evaluation accuracy 0.635 and
# 0.719. With fresh augmentation in every epoch: 0.604 and 0.673, 0.641 and 0.713.
STORED_VIEWS = 3
SHARED_VIEWS = 1

# "auto", or the address of a Ray cluster, such as "10.0.0.1:6379": its machines compute the outputs
# of the frozen layers. Not needed on one machine: docs/cluster.md.
CLUSTER = None

# Food-11: 16,643 photos of 11 kinds of food. PyImageSearch, "Fine-tuning with Keras and Deep
# Learning", 2019-06-03: accuracy 0.78 after the warm-up, 0.87 after the second phase. Food-11 could
# not be downloaded for measuring. On ten dishes of Food-101, with 3,000 training and 600 evaluation
# photos: 0.762, then 0.832, in 20 minutes on 2 cores of an AMD EPYC (Zen 5), in 45 minutes on an
# older one (Zen 4). With 1,000 training photos and 25 + 10 epochs: 0.635 (mean of nine seeds), then
# 0.719 (mean of three). With a plain port of the original scripts, the same 1,000 photos, 12 + 6
# epochs and one seed: 0.540, then 0.652.
FOOD11 = Recipe(
    source="Food-11",  # ORIG_INPUT_DATASET in the posts
    # tools/get_dataset.py downloads this archive. Kaggle's vermaavi/food11 has the same photos.
    download=Download("https://www.kaggle.com/datasets/trolukovich/food11-image-dataset"),
    official_counts={TRAIN: 9866, VAL: 3430, TEST: 3347},
    # CLASSES in the posts. The label of a photo is the position of its class, from 0.
    classes=(
        *("Bread", "Dairy product", "Dessert", "Egg", "Fried food", "Meat"),
        *("Noodles/Pasta", "Rice", "Seafood", "Soup", "Vegetable/Fruit"),
    ),
    method="fine_tune",
    backbone="VGG16",
    preprocessing=None,  # the backbone's own; the post trains on raw RGB by mistake
    image_size=None,  # the backbone's own: 224 for VGG16
    batch_size=32,  # BATCH_SIZE in the posts
    # Flatten keeps where things are in the photo: 7 x 7 x 512 = 25,088 numbers.
    head=Head(pooling="flatten", units=512, dropout=0.5, output="softmax"),
    augmentation=Augmentation(
        rotation_degrees=30,
        width_shift=0.2,
        height_shift=0.2,
        shear_degrees=0.15,  # the post's shear_range=0.15 is in degrees: next to nothing
        zoom=0.15,
        horizontal_flip=True,
    ),
    views="auto",
    phases=(
        # The head starts from random weights. Its large gradients would destroy the ImageNet
        # filters, so the backbone is frozen. The plot is warmup.png: WARMUP_PLOT_PATH in the posts.
        Phase("warmup", epochs=50, optimizer="SGD", learning_rate=1e-4, momentum=0.9),
        # In a row with another backbone, block4_pool stands for the start of its last block.
        # Trains block5_conv1 to block5_conv3 too. The plot is unfrozen.png: UNFROZEN_PLOT_PATH.
        Phase(
            "unfrozen",
            unfreeze_after="block4_pool",
            epochs=20,
            optimizer="SGD",
            learning_rate=1e-4,
            momentum=0.9,
        ),
    ),
)

# Food-11 in fewer epochs. The head is small and starts with logistic regression, so it needs no
# warm-up; the learning rate of the last block is ten times as high and falls to 0. On ten dishes of
# Food-101, with 3,000 training and 600 evaluation photos: 0.845, on 2 cores of an Intel Xeon. What
# else was tried is in docs/which_way.md.
FOOD11_BETTER = replace(
    FOOD11,
    head=Head(
        pooling="average", units=None, dropout=0, output="softmax", start="logistic_regression"
    ),
    regression=Regression(C=(1e-4, 3e-4, 1e-3, 3e-3)),
    phases=(
        Phase(
            "unfrozen",
            unfreeze_after="block4_pool",
            epochs=10,
            optimizer="SGD",
            learning_rate=1e-3,
            momentum=0.9,
            schedule="cosine",
        ),
    ),
)

# Food-5K: food or not, 5,000 photos. PyImageSearch, "Transfer Learning with Keras and Deep
# Learning", 2019-05-20: logistic regression on VGG16's features, accuracy 0.98. Food-5K could not
# be downloaded for measuring. On a similar dataset of ten dishes of Food-101 and Kaggle's cats and
# dogs (1,500 / 500 / 500 photos), on 2 cores of an AMD EPYC: 1.00 in 2 minutes. A plain port of the
# original scripts has 1.00 too. --method fine_tune uses Food-11's phases.
FOOD5K = replace(
    FOOD11,
    source="Food-5K",
    download=Download(
        "https://www.kaggle.com/datasets/trolukovich/food5k-image-dataset",
        checksum="sha256:6838829edbb56c4859e733960050d2a59974e52848093a61abdcfb1b9a580f09",
    ),
    official_counts={TRAIN: 3000, VAL: 1000, TEST: 1000},
    classes=("non_food", "food"),  # labels 0 and 1 in the file names: not in alphabetical order
    method="logistic_regression",
    backbone="VGG16",
    preprocessing=None,
    image_size=224,
    batch_size=32,
    head=Head(pooling="flatten", units=512, dropout=0.5, output="softmax"),
)

# Knifey-Spoony: forks, knives and spoons. Hvass-Labs, TensorFlow-Tutorials 10: accuracy 0.67 after
# the first phase, 0.79 after the second, which trains blocks 4 and 5. The test photos are also the
# validation photos. They could not be downloaded: this recipe is tested with synthetic photos only.
KNIFEY_SPOONY = Recipe(
    source="knifey-spoony",
    download=Download(
        "https://github.com/Hvass-Labs/knifey-spoony/raw/master/knifey-spoony.tar.gz",
        checksum="git:3f9cf4f1ea73ee34a11b50ba4106d9aee1d0c599",
    ),
    official_counts={TRAIN: 4170, VAL: 530, TEST: 530},
    classes=("forky", "knifey", "spoony"),
    layout="test_inside",
    validate_on_evaluation=True,
    method="fine_tune",
    backbone="VGG16",
    preprocessing="rescale",
    image_size=224,
    batch_size=20,
    head=Head(pooling="flatten", units=1024, dropout=0.5, output="softmax"),
    augmentation=Augmentation(
        rotation_degrees=180,
        width_shift=0.1,
        height_shift=0.1,
        shear_degrees=0.1,
        zoom=(0.9, 1.5),
        horizontal_flip=True,
        vertical_flip=True,
    ),
    class_weights="balanced",
    mistakes=9,
    phases=(
        Phase("transfer", epochs=20, steps_per_epoch=100, optimizer="Adam", learning_rate=1e-5),
        # The learning rate is small, because ImageNet's filters in two blocks are changed.
        Phase(
            "fine_tuning",
            unfreeze_after="block3_pool",
            epochs=20,
            steps_per_epoch=100,
            optimizer="Adam",
            learning_rate=1e-7,
        ),
    ),
)

# Cats vs dogs, second approach: train a head on augmented photos, then everything after
# block4_pool. Chollet, Deep Learning with Python, 5.3: val_accuracy 0.96, then test accuracy 0.968.
# Measured with half of the photos (500 / 150 / 150 of each class) and 30 + 15 epochs, on 2 cores of
# an AMD EPYC: 0.870, then 0.910 on validation, 0.870, then 0.903 on evaluation, in less than 8
# minutes.
CATS_VS_DOGS = Recipe(
    source="dogs-vs-cats",
    # Microsoft's copy needs no account. docs/downloads.md says how to get Kaggle's own.
    download=Download(
        "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"
        "kagglecatsanddogs_5340.zip",
        size=824_887_076,
        checksum="sha256:b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
    ),
    classes=("cat", "dog"),
    # Of each class, the first 1,000 photos are for training, the next 500 for validation, the next
    # 500 for evaluation.
    split=Split(training=1000, validation=500, evaluation=500, shuffle=False),
    method="fine_tune",
    backbone="VGG16",
    preprocessing="rescale",
    image_size=150,
    batch_size=20,
    head=Head(pooling="flatten", units=256, dropout=0, output="sigmoid"),
    augmentation=Augmentation(
        rotation_degrees=40,
        width_shift=0.2,
        height_shift=0.2,
        shear_degrees=0.2,
        zoom=0.2,
        horizontal_flip=True,
    ),
    phases=(
        Phase("frozen", epochs=30, steps_per_epoch=100, optimizer="RMSprop", learning_rate=2e-5),
        Phase(
            "unfrozen",
            unfreeze_after="block4_pool",
            epochs=100,
            steps_per_epoch=100,
            optimizer="RMSprop",
            learning_rate=1e-5,
        ),
    ),
    smoothing=0.8,
)

# Cats vs dogs, first approach: compute the features of each photo once, without augmentation, and
# train a head on them. The book: val_accuracy 0.90. Measured with the same half of the photos:
# 0.860 on validation, 0.883 on evaluation, in 0.8 minutes.
CATS_VS_DOGS_FEATURES = replace(
    CATS_VS_DOGS,
    head=Head(pooling="flatten", units=256, dropout=0.5, output="sigmoid"),
    augmentation=Augmentation(),
    phases=(Phase("head", epochs=30, augment=False, optimizer="RMSprop", learning_rate=2e-5),),
)

# Simpsons: Bart or Homer, with ResNet50. A Kaggle kernel by stevengolo, 2020-05-10: accuracy 0.883
# after the first phase, 0.867 after the second, which trains the last residual blocks. Neither the
# photos nor ResNet50's weights could be downloaded: this recipe is tested with synthetic photos and
# random weights only.
SIMPSONS = Recipe(
    source="simpsons",
    download=Download("https://www.kaggle.com/datasets/alexattia/the-simpsons-characters-dataset"),
    official_counts={TRAIN: 2588, VAL: 1000, TEST: 1000},
    classes=("bart_simpson", "homer_simpson"),
    layout="unsplit",
    split=Split(training=None, validation=0, evaluation=500),
    validate_on_evaluation=True,
    method="fine_tune",
    backbone="ResNet50",
    preprocessing=None,
    image_size=224,
    batch_size=50,
    head=Head(pooling="average", units=None, dropout=0, output="sigmoid"),
    augmentation=Augmentation(
        rotation_degrees=20,
        width_shift=0.2,
        height_shift=0.2,
        shear_degrees=0.2,
        zoom=0.2,
        horizontal_flip=True,
    ),
    mistakes=10,
    phases=(
        Phase("head", epochs=15, augment=False, optimizer="Adam", learning_rate=1e-4, held_out=0.1),
        # The kernel trains the layers from index 151 on, in the middle of a residual block. The
        # first complete block after it is conv5_block2.
        Phase(
            "unfrozen",
            unfreeze_after="conv5_block1_out",
            epochs=30,
            optimizer="SGD",
            learning_rate=1e-4,
            momentum=0.9,
        ),
    ),
)

# The demo: 417 photos of food in six groups, downloaded by tools/get_sample.py, with Food-11's
# settings. On 2 cores of an AMD EPYC, accuracy on 84 evaluation photos: 0.714, then 0.738; logistic
# regression 0.738. On 83 validation photos: 0.747, then 0.723; logistic regression 0.699.
SAMPLE = replace(
    FOOD11,
    source="downloads/sample",
    download="python tools/get_sample.py",
    official_counts=None,
    classes=(
        *("Cereals and pulses", "Fish and shellfish", "Fruit"),
        *("Leafy vegetables", "Nuts and spices", "Vegetables and roots"),
    ),
)

# scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, enlarged. They need no download:
# tools/get_sample.py writes them, even if npm is missing. On 2 cores of an AMD EPYC, accuracy on
# 359 evaluation digits: 0.944, then 0.950, in 1.1 minutes; logistic regression 0.964. val_loss is
# noisy in the last epochs, so the weights of the best epoch are kept.
DIGITS = replace(
    FOOD11,
    source="downloads/digits",
    download="python tools/get_sample.py --digits",
    official_counts=None,
    classes=tuple("0123456789"),
    image_size=64,
    # No flips: a mirrored digit is another character, or none.
    augmentation=Augmentation(rotation_degrees=10, width_shift=0.1, height_shift=0.1, zoom=0.1),
    phases=(
        Phase("warmup", epochs=10, optimizer="SGD", learning_rate=1e-3, momentum=0.9),
        Phase(
            "unfrozen",
            unfreeze_after="block4_pool",
            epochs=5,
            optimizer="SGD",
            learning_rate=1e-4,
            momentum=0.9,
            keep_best=True,
        ),
    ),
)

RECIPES = checked(
    {
        "food5k": FOOD5K,
        "food11": FOOD11,
        "food11_better": FOOD11_BETTER,
        "knifey_spoony": KNIFEY_SPOONY,
        "cats_vs_dogs_features": CATS_VS_DOGS_FEATURES,
        "cats_vs_dogs": CATS_VS_DOGS,
        "simpsons": SIMPSONS,
        "sample": SAMPLE,
        "digits": DIGITS,
        # Add a row for your own photos here, as docs/own_photos.md explains.
    }
)
# Reports mistakes in the other settings. A ~ at the start of a path is your home folder.
DATASET_DIR, OUTPUT_DIR, WEIGHTS = checked_settings(
    RECIPES,
    RECIPE=RECIPE,
    SPLITS=SPLITS,
    DATASET_DIR=DATASET_DIR,
    OUTPUT_DIR=OUTPUT_DIR,
    WEIGHTS=WEIGHTS,
    SEED=SEED,
    PRECISION=PRECISION,
    GPUS=GPUS,
    MAX_ITERATIONS=MAX_ITERATIONS,
    STORED_VIEWS=STORED_VIEWS,
    SHARED_VIEWS=SHARED_VIEWS,
    CLUSTER=CLUSTER,
)
