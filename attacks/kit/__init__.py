"""What an attack outside the tree may build on: the helpers that the built-in ones share, under names that stay."""

from attacks.kit.aim import Aim as Aim
from attacks.kit.aim import take_aim as take_aim
from attacks.kit.backdoor import Cover as Cover
from attacks.kit.backdoor import check_images as check_images
from attacks.kit.backdoor import clean_label as clean_label
from attacks.kit.backdoor import dirty_label as dirty_label
from attacks.kit.descent import adam_descent as adam_descent
from attacks.kit.descent import project as project
from attacks.kit.descent import signed_descent as signed_descent
from attacks.kit.rows import attacked as attacked
from attacks.kit.rows import check_class as check_class
from attacks.kit.rows import draw as draw
from attacks.kit.rows import nothing as nothing
from attacks.kit.rows import replace as replace
from attacks.kit.surrogate import surrogate as surrogate
from poisonbench.checks import check_at_least as check_at_least
from poisonbench.checks import check_choice as check_choice
from poisonbench.checks import check_fraction as check_fraction
