"""What the training stages share."""

from pathlib import Path

import pytest

from stages import finetune_metric, train_student

HERE = Path("nothing")


@pytest.mark.parametrize(
    ("main", "num_paths", "words", "message"),
    [
        (train_student.main, 3, ("vit1", "pseudo"), "got 'vit1' and 'pseudo'"),
        (train_student.main, 3, ("vit64x4", "x"), "labels of pseudo, synthetic, both, got 'vit64"),
        (finetune_metric.main, 4, ("vit1", "indoor"), "got 'vit1' and 'indoor'"),
        (finetune_metric.main, 4, ("vit64x4", "x"), "a domain of indoor, outdoor, got 'vit64x4'"),
    ],
)
def test_an_unknown_encoder_or_second_word_is_refused(main, num_paths, words, message):
    with pytest.raises(ValueError, match=rf"expected an encoder of vit.* and .*{message}"):
        main(*words, *[HERE] * num_paths)
