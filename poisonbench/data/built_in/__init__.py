"""The data sets that a name suffices for; each is read as `(root, download) -> (train, test)`."""

from poisonbench.data.built_in.adult import adult
from poisonbench.data.built_in.fsdd import fsdd
from poisonbench.data.built_in.pictures import Reader, digits, of_torchvision
from poisonbench.data.built_in.sst2 import sst2
from poisonbench.data.kind import KindName

DATASETS: dict[str, Reader] = {
    "digits": digits,
    "mnist": of_torchvision(
        "MNIST",
        "28x28 handwritten digits: 60,000 and 10,000 images, 10 classes; "
        "read or fetched by torchvision.",
    ),
    "fashion-mnist": of_torchvision(
        "FashionMNIST",
        "28x28 articles of clothing: 60,000 and 10,000 images, 10 classes; "
        "read or fetched by torchvision.",
    ),
    "cifar10": of_torchvision(
        "CIFAR10",
        "32x32 colour photographs: 50,000 and 10,000 images, 10 classes; "
        "read or fetched by torchvision.",
    ),
    "adult": adult,
    "sst2": sst2,
    "fsdd": fsdd,
}

# by name, so that what does not fit is told before anything is read
KIND_OF: dict[str, KindName] = {
    "digits": "image",
    "mnist": "image",
    "fashion-mnist": "image",
    "cifar10": "image",
    "adult": "vector",
    "sst2": "tokens",
    "fsdd": "spectrogram",
}
