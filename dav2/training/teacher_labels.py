"""Labels asked of the teacher while a student trains, where storing them would cost more.

Axes: H height, W width of the image; h, w of its label (pixels).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from dav2.data.images import decode_image
from dav2.data.open import SourceLocation
from dav2.labeling.codec import max_code, values_of
from dav2.labeling.labeler import Labeler, quantise, resize_labels
from dav2.labeling.prepare import LabelingOptions, Preparer
from dav2.training.samples import TrainingSample


class TeacherLabels:
    """Photographs, each labelled by a teacher when it is read; every pixel counts.

    Image and label are those that a shard would hold, with the steps of its codec: bit by bit where
    the shard was labelled in batches of one, as here. In larger batches the teacher may round
    otherwise, which can move a label by a step.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        sources: Mapping[str, SourceLocation],
        options: LabelingOptions,
        *,
        load_teacher: Callable[[], nn.Module],
        device: torch.device,
    ) -> None:
        """Opens the sources that the manifest names; the teacher is loaded at the first read.

        Photographs that are more elongated than labelling allows are left out.

        Args:
            manifest: Rows of photographs.
            sources: Where each source lies.
            options: As for labelling into shards; nothing is packed or compared here.
            load_teacher: Gives the teacher.
            device: Where it runs.
        """
        manifest = manifest.sort_values("sample_id", ignore_index=True)  # as the index of shards
        self._options = replace(options, check_fraction=0.0)
        self._preparer = Preparer(manifest, sources, self._options)
        places = range(len(manifest))
        self._rows = [row for row in places if self._preparer.size_of(row) != (0, 0)]
        self._ids = tuple(str(manifest["sample_id"][row]) for row in self._rows)
        self._load_teacher = load_teacher
        self._device = device
        self._labeler: Labeler | None = None

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Names of all samples, in the order of their indices."""
        return self._ids

    def read(self, index: int) -> TrainingSample:
        """Returns one sample.

        Raises:
            ValueError: If the photograph cannot be decoded, or if the teacher gives values that are
                not finite. Labelling into shards would leave such a photograph out; here the
                manifest has promised it, and what is trained would depend on when it was lost.
            OSError: If it cannot be read any more or is not the one that was ingested.
        """
        if self._labeler is None:
            with torch.random.fork_rng():  # a new model draws weights before it loads any
                teacher = self._load_teacher()
            self._labeler = Labeler(teacher, self._options, device=self._device, teacher="")
        image = self._preparer.prepare(self._rows[index])
        answers = self._labeler.answer(self._labeler.stack([image]))
        maps = resize_labels(answers, image.label_size)
        if num_bad := int((~maps.isfinite()).sum()):
            raise ValueError(
                f"{image.sample_id}: expected finite values of the teacher, got {num_bad} that "
                "are not"
            )
        codec = self._options.codec
        codes, minima, maxima = quantise(maps, max_code(codec))
        target = values_of(
            codes[0].cpu().numpy(), codec, minimum=minima.item(), maximum=maxima.item()
        )
        everywhere = np.ones(target.shape, bool)
        photograph = decode_image(image.jpeg)
        return TrainingSample(image.sample_id, photograph, target, everywhere, pseudo=True)
