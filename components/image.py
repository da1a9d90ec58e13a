"""What all components share: the image that they run in. A deployment names another one."""

from functools import partial

from kfp import dsl

IMAGE = "earmark:dev"
component = partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
