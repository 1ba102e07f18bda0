"""Where the public material lies that benchmarks work on."""

from tests.support.folders import DATA

TRAIN = DATA / "mnist" / "train-images-idx3-ubyte.gz"
TEST = DATA / "mnist" / "t10k-images-idx3-ubyte.gz"
