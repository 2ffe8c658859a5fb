"""The page in a real browser: no error, no overflow, themes, sliders and order by keyboard."""

import os
import shutil

import pytest

from stages.report import main
from tests.stages.test_report import ARGUMENTS

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="no Chromium of the distribution here"
)


@pytest.fixture(scope="module")
def address(finished_project, tmp_path_factory):
    """The page of a finished project, with facts of runs beside it."""
    root = tmp_path_factory.mktemp("browser") / "p"
    shutil.copytree(finished_project, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        (root / ".work").mkdir()
        (root / ".work" / "runs.jsonl").write_text(
            '{"stage": "evaluate@teacher", "status": "FINISHED", "seconds": 2.5, "device": "cpu", '
            '"peak_rss_mb": 9, "started": "2026-01-02T03:04:05+00:00", "run_id": "abc", '
            '"prediction_seconds_per_image": 0.004}\n'
        )
        main(*ARGUMENTS)
    return (root / ARGUMENTS[0]).as_uri()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "CI: expected chromium on the path, got none"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, address):
    """Opens the page; at the end no error may have come up in its console."""
    faults, contexts = [], []

    def open_page(width=1280, scheme="light", at=address):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(at)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_window(opened, width):
    page = opened(width)
    page.evaluate("document.querySelectorAll('details').forEach(box => { box.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_theme_follows_the_system_until_the_button_is_pressed(opened):
    page = opened(scheme="dark")

    def paper():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = paper()
    button = page.get_by_role("button", name="Switch to light colours")
    button.focus()
    page.keyboard.press("Enter")
    light = paper()
    assert sum(map(int, light[4:-1].split(","))) > 600 > 200 > sum(map(int, dark[4:-1].split(",")))
    page.reload()
    assert paper() == light
    page.get_by_role("button", name="Switch to dark colours").click()
    assert paper() == dark


def test_a_slider_moves_by_keyboard_and_shows_what_is_chosen(opened):
    page = opened()
    sample = page.locator("#pictures .sample").first
    slider = sample.get_by_role("slider")
    width = "getComputedStyle(document.querySelector('.compare .over')).clipPath"
    before = page.evaluate(width)
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "60"
    assert page.evaluate(width) != before
    sample.get_by_label("right").select_option(label="teacher")
    wanted = sample.locator("img[alt^='teacher of']").last.get_attribute("src")
    assert sample.locator(".under").get_attribute("src") == wanted
    assert slider.get_attribute("aria-valuetext").startswith("60 % image of ")


def test_every_image_chart_and_control_has_a_name(opened):
    page = opened()
    assert page.locator("img").count() > 20
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert page.locator("svg:not([aria-label])").count() == 0
    assert page.locator("table:not(:has(caption)), table:not(:has(th[scope]))").count() == 0
    nameless = """() => [...document.querySelectorAll('input, select, button, [tabindex="0"]')]
        .filter(one => !one.labels?.length && !one.ariaLabel && !one.textContent).length"""
    assert page.evaluate(nameless) == 0


def test_the_main_controls_are_reached_in_order_by_the_tab_key(opened):
    page = opened()
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("""() => {
                const one = document.activeElement, outline = getComputedStyle(one).outlineStyle
                const name = one.className || one.id || one.type || one.hash || one.tagName
                return [String(name), outline !== 'none']
            }""")
        )
    names = [name for name, _ in reached]
    assert names[:3] == ["skip", "theme", "#summary"]
    wanted = ["skip", "theme", "#provenance", "wide", "range"]
    assert sorted(wanted, key=names.index) == wanted
    assert all(is_seen for _, is_seen in reached)


def test_facts_of_runs_are_shown_beside(opened):
    page = opened()
    assert page.locator("#facts").is_visible()
    assert "2.5" in page.locator("#facts").inner_text()
    latency = page.locator("[data-beside=latency] svg")
    assert latency.get_attribute("aria-label").endswith("milliseconds per image")
    assert "teacher" in latency.text_content()


def test_a_page_copied_without_what_stood_beside_it_is_whole_and_quiet(opened, address, tmp_path):
    copy = tmp_path / "sent" / "report.html"
    copy.parent.mkdir()
    shutil.copy(address.removeprefix("file://"), copy)
    page = opened(at=copy.as_uri())
    assert page.locator("#results table").count() > 0
    assert page.locator("#champion").inner_text().endswith("fetch those of the registry.")
    assert page.locator("#facts").is_hidden()
    page.wait_for_timeout(200)  # an error would come late


def test_an_address_of_a_part_shows_it_though_something_came_in_above(opened, address):
    page = opened(width=390, at=f"{address}#results")
    page.locator("[data-beside=latency] svg").wait_for()
    assert 0 <= page.locator("#results").bounding_box()["y"] < 100
