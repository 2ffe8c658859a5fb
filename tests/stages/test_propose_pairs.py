"""The builder of pairs, the page on which they are answered, and what is made of the answers."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from dav2.annotation.answers import FORMAT
from dav2.data.da2k import Da2k
from dav2.metrics.pairs import PointPairs, correct_pairs
from stages import merge_pairs, propose_pairs

SIZE = (60, 80)
OBJECTS = [np.s_[5:15, 5:25], np.s_[20:30, 50:70], np.s_[40:55, 8:30]]
DEPTHS = {"a": (4.0, 1.0, 16.0), "b": (16.0, 4.0, 1.0)}
"""Of the objects, metres; in `a` the second is closest, in `b` the lowest."""


def painted(values) -> np.ndarray:
    found = np.full(SIZE, 40.0, dtype=np.float32)
    for place, value in zip(OBJECTS, values, strict=True):
        found[place] = value
    return found


def write_scene(root):
    """Two images of three objects, their depth, their masks and what two models say."""
    for scenario in ("indoor", "street"):
        for name, depths in DEPTHS.items():
            depth = painted(depths)
            labels = painted((1, 2, 3)) % 40
            grey = np.repeat((6 * depth).astype(np.uint8)[..., None], 3, axis=2)
            stem = f"{scenario}/{name}"
            for kind in ("photos", "depths", "masks", "right", "wrong"):
                (root / kind / scenario).mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey).save(root / "photos" / f"{stem}.png")
            Image.fromarray(labels.astype(np.uint8)).save(root / "masks" / f"{stem}.png")
            np.save(root / "depths" / f"{stem}.npy", depth)
            np.save(root / "right" / f"{stem}.npy", 1 / depth)
            np.save(root / "wrong" / f"{stem}.npy", depth / 16)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path)
    return tmp_path


def propose(*arguments, output="pairs"):
    propose_pairs.main(["photos", output, *arguments])


BY_MODELS = ["--masks", "masks", "--predictions", "right", "--predictions", "wrong"]


def depth_of(project, image) -> np.ndarray:
    return np.load((project / "depths" / image.removeprefix("images/")).with_suffix(".npy"))


def read(path):
    return json.loads(path.read_text())


def test_objects_on_which_models_disagree_are_asked_in_balance(project):
    propose(*BY_MODELS)
    pairs = read(project / "pairs" / "proposals.json")["pairs"]
    assert len(pairs) >= 4
    for pair in pairs:
        assert set(pair["votes"].values()) == {"point1", "point2"}
        assert pair["ratio"] > 3
        depth = depth_of(project, pair["image"])
        assert all(depth[tuple(pair[point])] < 40 for point in ("point1", "point2"))  # on objects
    for scenario in ("indoor", "street"):
        own = [pair for pair in pairs if f"/{scenario}/" in pair["image"]]
        upper = [
            (pair["point1"][0] < pair["point2"][0]) == (pair["proposed"] == "point1")
            for pair in own
        ]
        assert 2 * sum(upper) == len(own)
    propose(*BY_MODELS, output="again")
    for name in ("proposals.json", "proposed_annotations.json", "review.html"):
        assert (project / "again" / name).read_bytes() == (project / "pairs" / name).read_bytes()


def test_the_page_holds_no_answer(project):
    propose(*BY_MODELS, "--embed", "--pairs-per-page", "3")
    pages = sorted((project / "pairs").glob("review-*.html"))
    assert len(pages) > 1
    for page in pages:
        text = page.read_text()
        for hint in ("proposed", "votes", 'ratio"', "wrong"):
            assert hint not in text
        assert "http:" not in text.replace("http://www.w3.org", "")
        assert "https:" not in text
        assert "data:image/png;base64," in text


def test_known_depth_gives_pairs_that_the_reader_and_the_truth_confirm(project):
    propose("--depth", "depths", "--min-ratio", "1.5", "--pairs-per-image", "4")
    folder = project / "pairs"
    (folder / "annotations.json").write_bytes((folder / "proposed_annotations.json").read_bytes())
    reader = Da2k(folder)
    samples = reader.list_samples("test")
    assert {files.scene for files in samples} == {"indoor", "street"}
    for files in samples:
        pairs = reader.pairs(files, size=SIZE)
        found = PointPairs(
            closer=np.array([pair.closer for pair in pairs]),
            farther=np.array([pair.farther for pair in pairs]),
        )
        depth = depth_of(project, files.image)
        assert correct_pairs(1 / depth, found).all()


def test_models_are_run_where_only_their_weights_are_given(project):
    import torch

    from dav2.models import checkpoints
    from dav2.models.depth_anything import DepthAnything, ModelConfig

    torch.manual_seed(0)
    model = DepthAnything(ModelConfig("vit64x4"))
    checkpoints.save(model, project / "m.safetensors", {"short_side_px": 28})
    arguments = ["--masks", "masks", "--weights", "m.safetensors", "--predictions"]
    propose(*arguments, "right", "--min-ratio", "1.0001", output="one")
    propose(*arguments, "wrong", "--min-ratio", "1.0001", output="other")
    found = [read(project / name / "proposals.json")["pairs"] for name in ("one", "other")]
    votes = {pair["id"]: pair["votes"] for pairs in found for pair in pairs}
    assert votes  # whatever the model says, one of the two contradicts it
    assert all(set(given) & {"right", "wrong"} and "m" in given for given in votes.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --depth, or --masks and two models, got neither"),
        (["--masks", "masks", "--predictions", "right"], "two models to disagree, got 1"),
        (
            ["--masks", "masks", "--predictions", "right", "--predictions", "x/right"],
            "different names",
        ),
        (["--depth", "masks/none"], "expected a map"),
    ],
)
def test_what_does_not_suffice_is_refused_and_nothing_written(project, arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        propose(*arguments)
    assert not (project / "pairs").exists()


def test_a_folder_that_may_hold_answers_is_not_replaced(project):
    propose(*BY_MODELS)
    with pytest.raises(ValueError, match="pairs: expected a folder that is not there yet"):
        propose(*BY_MODELS)
    with pytest.raises(FileNotFoundError, match="expected a folder of images, got none"):
        propose_pairs.main(["nowhere", "new", *BY_MODELS])
    (project / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected images"):
        propose_pairs.main(["empty", "new", *BY_MODELS])


def write_export(path, reviewer, answers, entered=()):
    content = {"format": FORMAT, "reviewer": reviewer, "answers": answers, "entered": entered}
    path.write_text(json.dumps(content))
    return str(path)


def test_reviews_become_annotations_agreement_and_a_page_of_what_is_left(project):
    propose(*BY_MODELS)
    pairs = read(project / "pairs" / "proposals.json")["pairs"]
    as_proposed = {pair["id"]: pair["proposed"] for pair in pairs}
    doubtful = pairs[0]["id"]
    other = {"point1": "point2", "point2": "point1"}[as_proposed[doubtful]]
    added = {"image": pairs[0]["image"], "point1": [1, 1], "point2": [50, 40]}
    added_id = f"{added['image']}#1,1-50,40"
    one = write_export(
        project / "1.json", "anna", {**as_proposed, added_id: "point2"}, [{**added, "id": "x"}]
    )
    two = write_export(project / "2.json", "ben", {**as_proposed, doubtful: other})
    merge_pairs.main(["pairs", one, two])
    found = read(project / "pairs" / "agreement.json")
    count = len(pairs)
    assert found["num_pairs"] == {"decided": count - 1, "without_majority": 1, "unfinished": 1}
    assert found["as_proposed"] == 1.0
    assert 0 < found["cohen_kappa"]["anna, ben"] < 1
    written = read(project / "pairs" / "annotations.json")
    assert sum(map(len, written.values())) == count - 1
    left = (project / "pairs" / "again.html").read_text()
    assert doubtful in left
    assert added_id in left
    three = write_export(project / "3.json", "eva", {doubtful: other, added_id: "point2"})
    four = write_export(project / "4.json", "ben", {added_id: "point2"})
    merge_pairs.main(["pairs", one, two, three, four])
    written = read(project / "pairs" / "annotations.json")
    expected = {"point1": [50, 40], "point2": [1, 1], "closer_point": "point1"}
    assert expected in written[added["image"]]
    assert sum(map(len, written.values())) == count + 1
    assert not (project / "pairs" / "again.html").exists()
    with pytest.raises(ValueError, match=r"expected at least 2 reviewers .*, got anna"):
        merge_pairs.main(["pairs", one])


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("expected chromium on this machine, got none")
        pytest.skip("needs chromium")
    return found


def test_pairs_are_answered_skipped_undone_added_and_exported_in_a_browser(project):
    browser_path = chromium()
    from playwright.sync_api import sync_playwright

    propose(*BY_MODELS)
    pairs = read(project / "pairs" / "proposals.json")["pairs"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        page.set_default_timeout(5000)
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto((project / "pairs" / "review.html").as_uri())
        page.get_by_role("button", name="Export").click()
        assert page.text_content("#message") == "Enter your name first."
        page.keyboard.type("Anna 1")  # the field has the focus: no answer
        page.keyboard.press("Enter")
        assert page.text_content("#count") == f"0 of {len(pairs)}"
        for key in ("1", "2", "s"):
            page.keyboard.press(key)
        assert page.text_content("#count") == f"3 of {len(pairs)}"
        page.keyboard.press("u")
        page.keyboard.press("u")
        assert page.text_content("#count") == f"1 of {len(pairs)}"
        page.get_by_role("button", name="cannot be told").click()
        page.keyboard.press("ArrowLeft")
        assert page.get_attribute("#skip", "aria-pressed") == "true"
        page.reload()  # what was answered is kept
        assert page.text_content("#count") == f"2 of {len(pairs)}"
        assert page.input_value("#reviewer") == "Anna 1"
        page.wait_for_function("document.querySelectorAll('#overlay text').length === 2")
        page.keyboard.press("a")
        box = page.locator("#image").bounding_box()
        scale = box["width"] / SIZE[1]
        for row, column in ((3, 5), (57, 70)):
            place = {"x": (column + 0.5) * scale, "y": (row + 0.5) * scale}
            page.locator("#frame").click(position=place)
        page.keyboard.press("2")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Export").click()
        export = project / waiting.value.suggested_filename
        waiting.value.save_as(export)
        browser.close()
    assert problems == []
    assert export.name == "review-Anna_1.json"
    answers = read(export)["answers"]
    image = pairs[1]["image"]
    added = f"{image}#3,5-57,70"
    assert answers == {pairs[0]["id"]: "point1", pairs[1]["id"]: "skip", added: "point2"}
    merge_pairs.main(["pairs", str(export), "--min-answers", "1"])
    reader = Da2k(project / "pairs")
    found = {files.image: reader.pairs(files, size=SIZE) for files in reader.list_samples("test")}
    assert ((57, 70), (3, 5)) in [(pair.closer, pair.farther) for pair in found[image]]
    first = [(pair.closer, pair.farther) for pair in found[pairs[0]["image"]]]
    assert (tuple(pairs[0]["point1"]), tuple(pairs[0]["point2"])) in first
    assert sum(map(len, found.values())) == 2
