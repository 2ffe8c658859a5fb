"""A small folder of photographs with its manifest, and a teacher that counts what it sees."""

import dataclasses
import hashlib
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from dav2.data.images import encode_jpeg
from dav2.data.open import SourceLocation
from dav2.labeling import ray_engine
from dav2.labeling.engine import label_shards
from dav2.labeling.job import LabelingJob, RayOptions
from dav2.labeling.plan import plan_shards
from dav2.labeling.prepare import LabelingOptions
from dav2.labeling.store import find_shard, publish
from dav2.labeling.summary import summarise
from dav2.labeling.unread import readable_again
from tests.fixtures.rays import Ray

OPTIONS = LabelingOptions(
    short_side_px=28,
    jpeg_scaling=False,
    image_short_side_px=28,
    jpeg_quality=95,
    max_aspect_ratio=3.0,
    batch_size=3,
    check_fraction=0.5,
    check_scale=None,
    codec="png16",
    dtype="float32",
    compile=False,
)
SHAPES = ((28, 42), (42, 28), (33, 50), (70, 56))


def hashes(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "image_hash": digest,
        "content_hash": hashlib.sha256(digest.encode()).hexdigest(),
    }


class Teacher(nn.Module):
    """Blurs what it sees and adds a ramp, so that labels depend on every pixel and its place."""

    def __init__(self):
        super().__init__()
        self.blur = nn.Conv2d(3, 1, 5, padding=2)
        nn.init.constant_(self.blur.weight, 0.01)
        nn.init.constant_(self.blur.bias, 0.5)
        self.batch_sizes = []

    def forward(self, images):
        self.batch_sizes.append(len(images))
        ramp = torch.arange(images.shape[2], device=images.device)[:, None] / 10
        return self.blur(images)[:, 0] + ramp


class Photographs:
    """Sources of photographs under a folder; jobs to label them."""

    def __init__(self, folder):
        self.folder = folder
        self.store = folder / "store"
        self.store.mkdir()
        self.teacher = Teacher()
        self.shapes = SHAPES

    def add(self, source, count):
        root = self.folder / source
        root.mkdir(exist_ok=True)
        for number in range(count):
            random = np.random.default_rng([len(source), number])
            height, width = self.shapes[number % len(self.shapes)]
            coarse = random.integers(0, 256, (7, 9, 3), dtype=np.uint8)
            image = np.asarray(Image.fromarray(coarse).resize((width, height)))
            (root / f"{number:03}.jpg").write_bytes(encode_jpeg(image, quality=90))
        return self

    def manifest(self):
        rows = []
        for path in sorted(self.folder.glob("*/*.jpg")):
            source, number = path.parent.name, int(path.stem)
            height, width = self.shapes[number % len(self.shapes)]
            rows.append(
                {
                    "sample_id": f"{source}-{path.stem}",
                    "source": source,
                    "scene": "",
                    "image": path.name,
                    "depth": None,
                    "extra": "[]",
                    "height": height,
                    "width": width,
                    **hashes(path),
                    "decoder": "d" * 16,
                }
            )
        return pd.DataFrame(rows)

    def job(self, manifest=None, *, teacher="t" * 16, num_workers=2, store=None, **options):
        manifest = self.manifest() if manifest is None else manifest
        chosen = dataclasses.replace(OPTIONS, **options)
        return LabelingJob(
            manifest=manifest,
            sources={
                source: SourceLocation(reader="folder", root=self.folder / source)
                for source in set(manifest["source"])
            },
            load_teacher=lambda: self.teacher,
            teacher=teacher,
            recipe=f"{teacher} {chosen}",
            verify=lambda: None,
            options=chosen,
            device=torch.device("cpu"),
            num_threads=1,
            num_workers=num_workers,
            store=store or self.store,
            ray=RayOptions(address=None, num_workers=2),
        )

    def label(self, job, output=None, *, samples_per_shard=4, engine="inline"):
        """Does what the stage does: plan, reuse, label what is missing, publish."""
        shards = plan_shards(job.manifest, samples_per_shard=samples_per_shard, recipe=job.recipe)
        found = {shard: find_shard(job.store, shard) for shard in shards}
        found = {shard: record for shard, record in found.items() if record}
        again = readable_again(job, list(found.items()))
        missing = [shard for shard in shards if shard not in found or shard.name in again]
        attempts = label_shards(engine, missing, job, on_samples=lambda num: None)
        records = found | {attempt.shard: attempt.record for attempt in attempts}
        finished = [(shard, records[shard]) for shard in shards]
        if output is not None:
            publish(job.store, finished, output, summary=summarise(job, finished))
        return finished

    def fail_when(self, condition, error):
        """Makes the teacher raise `error` where `condition(images)` holds; returns the remedy."""
        answer = self.teacher.forward

        def fail(images):
            if condition(images):
                raise error
            return answer(images)

        self.teacher.forward = fail
        return lambda: setattr(self.teacher, "forward", answer)

    def num_seen(self):
        return sum(self.teacher.batch_sizes)


@pytest.fixture
def photographs(tmp_path):
    return Photographs(tmp_path)


@pytest.fixture
def ray(monkeypatch):
    """Ray's workers, living and dying in this process, for the engine of that name."""
    made = Ray()

    @contextmanager
    def connected(job):
        yield made

    monkeypatch.setattr(ray_engine, "connected", connected)
    return made
