"""SigLIP's image tower in any size: timm has the published ones, by name. Called by `model` before it builds a model.

The name says the sizes (`cleanerclip_siglip_WIDTH_LAYERS_HEADS_INNER_PATCH_IMAGE_ACTIVATION`), so a configuration that
was written beside weights builds the same tower again.
"""

import re
from functools import partial
from typing import Any, Final

from timm.models import is_model, register_model
from timm.models.vision_transformer import VisionTransformer
from torch import nn

_NAME: Final = re.compile(r"cleanerclip_siglip_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)_(tanh|none)")


def register_tower(name: str) -> None:
    """Makes timm know the tower of that name; nothing where the name is not one of these."""
    matched = _NAME.fullmatch(name)
    if matched is None or is_model(name):
        return
    width, layers, heads, inner, patch, image = map(int, matched.groups()[:6])

    def tower(pretrained: bool = False, **settings: Any) -> VisionTransformer:
        known = {key: settings[key] for key in ("num_classes", "global_pool") if key in settings}
        return VisionTransformer(
            img_size=image,
            patch_size=patch,
            embed_dim=width,
            depth=layers,
            num_heads=heads,
            mlp_ratio=inner / width,
            class_token=False,
            act_layer=partial(nn.GELU, approximate=matched.group(7)),
            **known,
        )

    tower.__name__ = name
    tower.__module__ = __name__
    register_model(tower)
