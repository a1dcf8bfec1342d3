"""What an attack outside the tree may build on: the helpers that the built-in ones share, under names that stay."""

from attacks._backdoor import Cover as Cover
from attacks._backdoor import check_images as check_images
from attacks._backdoor import clean_label as clean_label
from attacks._backdoor import dirty_label as dirty_label
from attacks._common import attacked as attacked
from attacks._common import check_at_least as check_at_least
from attacks._common import check_choice as check_choice
from attacks._common import check_class as check_class
from attacks._common import check_fraction as check_fraction
from attacks._common import draw as draw
from attacks._common import nothing as nothing
from attacks._common import replace as replace
from attacks._craft import project as project
from attacks._craft import signed_descent as signed_descent
from attacks._craft import surrogate as surrogate
from attacks._targeted import Aim as Aim
from attacks._targeted import adam_descent as adam_descent
from attacks._targeted import take_aim as take_aim
