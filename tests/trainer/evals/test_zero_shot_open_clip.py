"""Zero-shot against open_clip's own code: the same model and images, the same class for every image."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pipeline.demo.data import TEMPLATES, DemoOptions, write_demo_data
from pipeline.storage import write_json
from tests.places import ROOT
from trainer.checkpoint import FINAL_CONFIG, FINAL_WEIGHTS, save_weights
from trainer.embedding import embed_classes
from trainer.evals import evaluate_zero_shot, load_labelled
from trainer.evals.labelled import LabelledBatch, LabelledImages
from trainer.model import ClipModel, load_model, open_clip_config

# isort: split
import open_clip  # noqa: TID251

VICTIM = ROOT / "trainer" / "demo_victim" / "victim.safetensors"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    folder = tmp_path_factory.mktemp("scenes")
    manifest = write_demo_data(folder, DemoOptions(seed=1, num_train=1, num_test_per_class=3))
    return load_labelled(str(manifest), templates=TEMPLATES[:4])


@pytest.fixture(scope="module", params=["victim", "random"])
def clip(request: pytest.FixtureRequest) -> ClipModel:
    if request.param == "victim":
        return load_model(checkpoint=VICTIM)
    return load_model("cleanerclip-tiny-32", seed=4)


def _by_open_clip(clip: ClipModel, folder: Path, data: LabelledImages) -> tuple[list[int], Tensor]:
    """Each image's class and the class vectors (C, D), with nothing of ours but the tokenizer and the images."""
    save_weights(folder / FINAL_WEIGHTS, clip.model.state_dict(), metadata={})
    write_json(folder / FINAL_CONFIG, open_clip_config(clip))
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    class_DC = open_clip.build_zero_shot_classifier(model, clip.tokenizer, data.classnames, data.templates)
    images: list[Image.Image] = [image for _, image, _ in data.decoded()]
    with torch.no_grad():
        vector_ND = functional.normalize(
            model.encode_image(torch.stack([preprocess(i) for i in images])), dim=-1
        )
    chosen: list[int] = (100 * vector_ND @ class_DC).argmax(dim=1).tolist()
    return chosen, class_DC.T


def test_every_image_is_put_in_the_class_that_open_clip_puts_it_in(
    clip: ClipModel, data: LabelledImages, tmp_path: Path
) -> None:
    ours: list[int] = []

    def observe(_: LabelledBatch, clean_NK: Tensor, *__: object) -> None:
        ours.extend(clean_NK[:, 0].tolist())

    result = evaluate_zero_shot(clip, data, batch_size=64, observe=observe)
    theirs, class_CD = _by_open_clip(clip, tmp_path, data)
    assert len(theirs) == 90
    assert ours == theirs
    labels = [label for _, _, label in data.decoded()]
    assert result.ba[1].hits == sum(a == b for a, b in zip(theirs, labels, strict=True))
    with torch.no_grad():
        torch.testing.assert_close(
            embed_classes(clip, data.classnames, data.templates), class_CD, rtol=1e-4, atol=1e-5
        )
