"""Finds shards that are worth making again, as a photograph can be read that could not be."""

import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from dav2.data.open import ChangedFileError, ManifestReader
from dav2.labeling.job import LabelingJob, excerpt
from dav2.labeling.plan import PlannedShard
from dav2.labeling.store import ShardRecord

_MOST_WITHOUT_ANSWER = 10
"""So many photographs of a source that neither are there nor are not: the source is out of reach,
and each of the others would be waited for as long."""

logger = logging.getLogger(__name__)


def readable_again(job: LabelingJob, found: Sequence[tuple[PlannedShard, ShardRecord]]) -> set[str]:
    """Returns the names of shards of which a refused photograph would now get a label.

    Only photographs that could not be read are looked at, up to the first of a shard that can be
    read and is the one that was ingested. A source that does not answer is left alone.

    Args:
        job: What is labelled, and where its photographs lie.
        found: Committed shards of the plan with their records.
    """
    incomplete = {shard: set(record.unread) for shard, record in found if record.unread}
    if not incomplete:
        return set()
    shards, part = excerpt(list(incomplete), job)
    ids, sources = part.manifest["sample_id"], part.manifest["source"]
    reader = ManifestReader(part.manifest, part.sources)
    without_answer: Counter[str] = Counter()

    def is_readable(row: int) -> bool:
        try:
            reader.read_ingested(row)
        except (FileNotFoundError, ChangedFileError):
            return False
        except OSError as error:
            without_answer[sources[row]] += 1
            if without_answer[sources[row]] == _MOST_WITHOUT_ANSWER:
                logger.warning("%s: %s: left alone until the next run", sources[row], error)
            return False
        except ValueError:  # it is there: labelling will refuse it for good
            return True
        return True

    def is_worth_it(shard: PlannedShard, unread: set[str]) -> bool:
        return any(
            is_readable(row)
            for row in shard.rows
            if ids[row] in unread and without_answer[sources[row]] < _MOST_WITHOUT_ANSWER
        )

    with ThreadPoolExecutor(job.num_workers, "look") as pool:
        answers = pool.map(is_worth_it, shards, incomplete.values())
        return {shard.name for shard, answer in zip(shards, answers, strict=True) if answer}
