"""A folder of one's own: images, and depth in files of the same kind and unit throughout.

Axes: H height, W width (pixels).
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from dav2.data.images import MAX_PIXELS
from dav2.data.lists import below_root, read_list
from dav2.data.own_depth import camera, decode_stored, to_depth
from dav2.data.own_options import DEPTH_SUFFIXES, OwnOptions
from dav2.data.reader import FileReader, check_measured, check_samples
from dav2.data.sample import DepthSample, SampleFiles
from dav2.data.storage import Storage
from dav2.data.templates import NameTemplate

_log = logging.getLogger(__name__)
_NOTHING_STATED = OwnOptions()


class OwnFolder(FileReader):
    """Reads what its options describe (`dav2.data.own_options`).

    A sample is named as its image without the suffix. Nothing is guessed: an option that does not
    fit the files, a map of another size than its image, or an image without a map is an error. No
    count is checked.
    """

    def __init__(
        self,
        root: Path | str | Storage,
        *,
        max_pixels: int = MAX_PIXELS,
        options: OwnOptions = _NOTHING_STATED,
    ) -> None:
        """Prepares to read; opens nothing."""
        super().__init__(root, max_pixels=max_pixels)
        self._options = options

    def list_samples(self, split: str) -> list[SampleFiles]:
        """Returns the samples of `all`, of a folder that `{split}` stands for, or of a list."""
        options = self._options
        self._check_root()
        self._check_stated()
        if options.split_lists:
            self._refuse_split(split, *sorted(options.split_lists))
            path = options.split_lists[split]
            samples = self._listed(path) if options.images else self._pairs(path)
        else:
            found = list(self._find())
            splits = {name for _, name in found}
            self._refuse_split(split, *sorted(splits))
            samples = (files for files, name in found if name == split)
        return check_samples(self._with_depth(samples), where=self._storage.where(), split=split)

    def read(self, files: SampleFiles) -> DepthSample:
        """Returns one sample; what is neither measured nor sky is NaN."""
        self._check_stated()
        options, image = self._options, self.read_image(files)
        size = (image.shape[0], image.shape[1])
        if options.image_size is not None and size != tuple(options.image_size):
            height, width = options.image_size
            raise ValueError(
                f"{self._storage.where(files.image)}: expected {height} x {width} (height x "
                f"width), which the intrinsics are for, got {size[0]} x {size[1]}"
            )
        assert files.depth is not None
        where = self._storage.where(files.depth)
        stored = decode_stored(
            self.read_bytes(files.depth),
            suffix=PurePosixPath(files.depth).suffix,
            size=size,
            options=options,
            where=where,
        )
        depth, valid, sky = to_depth(stored, options)
        check_measured(stored, valid, sky, where=where)
        return DepthSample(
            sample_id=files.sample_id,
            dataset="own",
            scene=files.scene,
            image=image,
            depth=depth,
            valid=valid,
            sky=sky,
            intrinsics=camera(options),
            scale_known=options.scale_known,
        )

    def _check_stated(self) -> None:
        if missing := self._options.missing():
            raise ValueError(
                f"{self._storage.where()}: options: expected what the files hold, got no {missing}"
            )

    def _find(self) -> Iterator[tuple[SampleFiles, str]]:
        """Yields every image that fits its template, and its split; depth None if not there."""
        images = NameTemplate(self._options.images, name="images")
        depth = NameTemplate(self._options.depth, name="depth")
        paths = {file.path for file in self._storage.list_files()}
        found = {path: values for path in paths if (values := images.match(path)) is not None}
        if not found:
            examples = ", ".join(sorted(paths)[:3])
            raise ValueError(
                f"{self._storage.where()}: expected images named {images}, "
                f"got none among {len(paths)} files{f': {examples}' if examples else ''}"
            )
        maps = {path: depth.fill(values) for path, values in found.items()}
        # `{frame}.png` also fits the `1_depth.png` of an image `1.png`, which is no image.
        taken = set(maps.values())
        for path, values in found.items():
            if path not in taken:
                files = _sample(
                    path,
                    depth=maps[path] if maps[path] in paths else None,
                    scene=values.get("scene"),
                )
                yield files, values.get("split", "all")

    def _listed(self, path: str) -> Iterator[SampleFiles]:
        """Yields the images of a list, each named with or without its suffix."""
        lines = read_list(self._storage, path, columns="an image", num_names=range(1, 100))
        found = {files.sample_id: files for files, _ in self._find()}
        by_image = {files.image: files for files in found.values()}
        seen: set[str] = set()
        for line in lines:
            name = " ".join(line.names)
            files = by_image.get(name) or found.get(name)
            if files is None:
                raise ValueError(
                    f"{line.where}: expected one of the {len(found)} images named "
                    f"{self._options.images}, got {name!r}"
                )
            _check_new(files, seen, where=line.where)
            yield files

    def _pairs(self, path: str) -> Iterator[SampleFiles]:
        """Yields the samples of a list of two columns; a third, as others write, is passed over."""
        seen: set[str] = set()
        for line in read_list(
            self._storage, path, columns="an image and its depth map", num_names=range(2, 4)
        ):
            image, depth = (below_root(name, where=line.where) for name in line.names[:2])
            if PurePosixPath(depth).suffix.lower() not in DEPTH_SUFFIXES:
                raise ValueError(
                    f"{line.where}: expected a depth map {', '.join(DEPTH_SUFFIXES)}, got {depth!r}"
                )
            files = _sample(image, depth=depth, scene=None)
            _check_new(files, seen, where=line.where)
            yield files

    def _with_depth(self, samples: Iterable[SampleFiles]) -> list[SampleFiles]:
        """Returns those with a depth map; refuses the others, or leaves them out if so chosen."""
        ordered = list(samples)
        missing = sorted(files.image for files in ordered if files.depth is None)
        if missing and not self._options.skip_images_without_depth:
            raise ValueError(
                f"{self._storage.where()}: expected {self._options.depth} for each of "
                f"{len(ordered)} images, got none for {len(missing)}: "
                f"{', '.join(missing[:3])}; skip_images_without_depth leaves them out"
            )
        if missing:
            _log.warning(
                "%s: %d of %d images have no depth map and are left out",
                self._storage.where(),
                len(missing),
                len(ordered),
            )
        return [files for files in ordered if files.depth is not None]


def _sample(image: str, *, depth: str | None, scene: str | None) -> SampleFiles:
    path = PurePosixPath(image)
    folder = "" if path.parent == PurePosixPath() else str(path.parent)
    return SampleFiles(
        sample_id=str(path.with_suffix("")),
        scene=folder if scene is None else scene,
        image=image,
        depth=depth,
    )


def _check_new(files: SampleFiles, seen: set[str], *, where: str) -> None:
    if files.sample_id in seen:
        raise ValueError(f"{where}: expected every sample once, got {files.sample_id!r} again")
    seen.add(files.sample_id)
