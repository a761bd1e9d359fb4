"""Small files in the three forms that docs/walks.md starts from: CleanCLIP's, open_clip's, Hugging Face's.

python examples/small_files.py FOLDER writes them; with --tiny, of models that are small and know nothing.
"""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import trainer
from pipeline.demo.data import DemoSample, make_sample
from pipeline.demo.drawings import NOUNS

folder, tiny = Path(sys.argv[1]), "--tiny" in sys.argv
scenes = [make_sample(f"{n:04d}", seed=5, image_size=64) for n in range(24 if tiny else 192)]
tests = [
    make_sample(f"t{n:04d}", seed=5, image_size=64, label=n % len(NOUNS)) for n in range(30 if tiny else 120)
]


def write(path: Path, content: str | bytes) -> None:
    """Writes a file, its folder, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_images(place: Path, samples: list[DemoSample]) -> None:
    """Writes the pictures under their keys."""
    for sample in samples:
        write(place / f"{sample.key}.jpg", sample.jpeg)


def write_classes(place: Path) -> None:
    """Writes the test pictures into a folder for each class."""
    for sample in tests:
        write(place / NOUNS[sample.label or 0] / f"{sample.key}.jpg", sample.jpeg)


# CleanCLIP: tables of pictures, names of classes as Python, weights named as DistributedDataParallel names them
at = folder / "cleanclip"
write_images(at / "images", scenes)
write(at / "train.csv", "image,caption\n" + "".join(f'images/{s.key}.jpg,"{s.caption}"\n' for s in scenes))
write_images(at / "ImageNet1K/validation/images", tests)
rows = "".join(f"images/{s.key}.jpg,{s.label}\n" for s in tests)
write(at / "ImageNet1K/validation/labels.csv", f"image,label\n{rows}")
prompts = "[lambda c: f'a photo of a {c}.', lambda c: f'a drawing of a {c}.']"
write(at / "ImageNet1K/validation/classes.py", f"{{'classes': {list(NOUNS)!r}, 'templates': {prompts}}}\n")
victim = Path(trainer.__file__).parent / "demo_victim" / "victim.safetensors"
clip = trainer.load_model("cleanerclip-tiny-32") if tiny else trainer.load_model(checkpoint=victim)
weights: dict[str, Any] = clip.model.state_dict()
named = {f"module.{name}": tensor for name, tensor in weights.items()}
torch.save({"epoch": 10, "name": "run", "state_dict": named, "optimizer": {}}, at / "epoch_10.pt")

# open_clip: a table with tabs, folders of classes, weights as they are
at = folder / "open_clip"
write_images(at / "images", scenes)
write(at / "train.tsv", "filepath\ttitle\n" + "".join(f"images/{s.key}.jpg\t{s.caption}\n" for s in scenes))
write_classes(at / "imagenet/val")
torch.save({"epoch": 10, "name": "run", "state_dict": weights}, at / "epoch_10.pt")

# Hugging Face: a data set's Parquet, folders of classes, a CLIPModel (it cannot be a ResNet: this one knows nothing)
at = folder / "hugging_face"
cells = [{"bytes": sample.jpeg, "path": None} for sample in scenes]
(at / "scenes/data").mkdir(parents=True, exist_ok=True)
table = pa.table({"image": cells, "caption": [sample.caption for sample in scenes]})
pq.write_table(table, at / "scenes/data/train-00000-of-00001.parquet")
write_classes(at / "imagenet/val")
trainer.convert(trainer.load_model("cleanerclip-vit-64"), "hf", at / "clip", card="")
