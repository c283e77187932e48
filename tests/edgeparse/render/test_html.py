"""The HTML report, opened from disk in Chromium: numbers, network silence, accessibility and size."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab

from docs.screenshots import browser as open_browser
from docs.screenshots import chromium
from edgeparse import BundleError, ImageError, Parser
from edgeparse.render import phrases
from edgeparse.render.html import MAX_PICTURE_BYTES, HtmlReport, matrix_svg
from edgeparse.report import Candidate, Report
from tests.conftest import ANY, comparing, noise, sample_files

# A continuous-integration machine without the browser must not pass for want of it.
needs_browser = pytest.mark.skipif(
    chromium() is None and "CI" not in os.environ, reason="there is no Chromium here; name it with CHROMIUM"
)

Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens a page from disk; a network request or a policy violation fails the test."""
    wrong: list[str] = []
    tabs = []

    def show(html: str, **options: Any) -> Tab:
        file = tmp_path / "report.html"
        file.write_text(html, encoding="utf-8")
        tab = browser.new_page(**options)
        tabs.append(tab)
        tab.on(
            "request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url)
        )
        tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(file.as_uri())
        return tab

    yield show
    for tab in tabs:
        tab.close()
    assert wrong == []


def page_of(parser: Parser, sources: list[Any]) -> tuple[str, list[Report]]:
    page, reports = HtmlReport(parser.bundle, len(sources)), []
    for source in sources:
        try:
            look = parser.inspect(source)
        except ImageError as error:
            reports.append(parser.failure(source, error))
            page.add(reports[-1], None)
        else:
            reports.append(look.report)
            page.add(look.report, look)
    return page.render(), reports


@pytest.fixture
def telling(bundle_copy: Path) -> Parser:
    """A parser that reports every attribute of its bundle."""
    return Parser(comparing(bundle_copy, known=ANY, reported=True))


def values(tab: Tab, field: str) -> list[float]:
    found = tab.eval_on_selector_all(f'[data-field="{field}"] data', "all => all.map(d => [d.value, d.textContent])")
    for value, text in found:
        # What is read is what is written, rounded.
        digits = len(text.partition(".")[2])
        assert text[-1] in "kM" or float(text) == pytest.approx(float(value), abs=0.51 * 10**-digits)
    return [float(value) for value, _ in found]


@needs_browser
def test_numbers_are_those_of_the_json(telling: Parser, shown: Open) -> None:
    html, (report,) = page_of(telling, [sample_files()[3]])
    tab = shown(html)
    answer = report.to_json()
    assert json.loads(tab.text_content("#reports") or "") == [answer]
    assert values(tab, "probability_generated") == [answer["probability_generated"]]
    assert values(tab, "candidate") == [candidate["score"] for candidate in answer["generator"]["candidates"]]
    assert values(tab, "family") == sorted(answer["family"]["probabilities"].values(), reverse=True)
    assert values(tab, "loss") == sorted(answer["losses"].values(), reverse=True)
    intervals = [a for a in answer["architecture"].values() if "low" in a]
    assert values(tab, "interval") == [interval["value"] for interval in intervals]
    assert values(tab, "choice") == [a["probability"] for a in answer["architecture"].values() if "low" not in a]
    body = tab.inner_text("body")
    for interval in intervals:
        assert f"{phrases.count(interval['low'])} to {phrases.count(interval['high'])}" in body
    for word in (answer["generator"]["name"], answer["bundle"], answer["backend"], f"{ANY:.3f} reached"):
        assert word in body
    assert phrases.VERDICTS[answer["verdict"]].lower() in body.lower()
    assert all(sentence in body for sentence in phrases.LIMITS)


@needs_browser
def test_windows_are_drawn_where_they_were_cut_in_the_colour_of_their_score(telling: Parser, shown: Open) -> None:
    look = telling.inspect(noise(400, 700))
    page = HtmlReport(telling.bundle, 1)
    page.add(look.report, look)
    tab = shown(page.render())
    drawn = tab.eval_on_selector_all(
        ".outline", "all => all.map(r => ['x', 'y', 'width', 'height'].map(name => Number(r.getAttribute(name))))"
    )
    assert drawn == [[left, top, 128, 128] for top, left in look.corners]
    strokes = tab.eval_on_selector_all(".outline", "all => all.map(r => getComputedStyle(r).stroke)")
    calibration = telling.bundle.calibration
    kinds = [(score >= calibration.generated) - (score < calibration.camera) for score in look.scores]
    for i in range(len(kinds)):
        assert (strokes[i] == strokes[0]) == (kinds[i] == kinds[0])
    picture = tab.eval_on_selector(
        ".windows image", "i => [i.getBoundingClientRect().width, i.href.baseVal.slice(0, 15)]"
    )
    assert picture[0] > 200
    assert picture[1] == "data:image/jpeg"


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("pictures", ["one", "several"])
def test_axe_finds_nothing_serious(telling: Parser, shown: Open, scheme: str, pictures: str) -> None:
    sources: list[Any] = [sample_files()[0]] if pictures == "one" else [*sample_files(), "missing.png"]
    html, _ = page_of(telling, sources)
    # Axe is given to the page by the test, past the page's own policy.
    tab = shown(html, color_scheme=scheme, bypass_csp=True)
    found = Axe().run(tab).response
    assert len(found["passes"]) > 20
    assert [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")] == []


@needs_browser
def test_axe_would_find_something(shown: Open) -> None:
    tab = shown('<html lang="en"><title>x</title><img src="data:,"><p style="color:#ccc;background:#fff">pale')
    found = {violation["id"] for violation in Axe().run(tab).response["violations"]}
    assert {"image-alt", "color-contrast"} <= found


@needs_browser
def test_names_are_text_and_nothing_else(parser: Parser, shown: Open, tmp_path: Path) -> None:
    name = "<img src=x onerror=document.title='owned'>'\"&.jpg"
    path = tmp_path / name.replace("/", "")
    path.write_bytes(sample_files()[0].read_bytes())
    html, _ = page_of(parser, [path, f"{tmp_path}/</script><script>document.title='owned'</script>.png"])
    tab = shown(html)
    assert "owned" not in tab.title()
    assert name in tab.inner_text(".index tbody")
    assert len(json.loads(tab.text_content("#reports") or "")) == 2


def test_policy_forbids_requests_and_foreign_scripts(parser: Parser) -> None:
    html, _ = page_of(parser, [noise(200, 200)])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    assert "http" not in re.sub(r"data:image[^\"]*", "", html).replace("http-equiv", "")


@needs_browser
def test_the_policy_is_kept_by_the_browser(parser: Parser, shown: Open, browser: Browser, tmp_path: Path) -> None:
    html, _ = page_of(parser, [noise(200, 200)])
    file = tmp_path / "forged.html"
    file.write_text(html.replace("</main>", "<script>document.title='owned'</script></main>"), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(file.as_uri())
    assert tab.title() != "owned"
    tab.close()


def test_weight_of_a_megapixel(parser: Parser) -> None:
    hard = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    for picture in (noise(1000, 1000), hard):
        html, (report,) = page_of(parser, [picture])
        assert report.windows == 8
        assert len(html.encode()) <= 1_500_000
    assert MAX_PICTURE_BYTES * 4 / 3 < 1_500_000


@needs_browser
def test_list_filters_and_sorts_by_keyboard(telling: Parser, shown: Open) -> None:
    html, reports = page_of(telling, [*sample_files(), "missing.png"])
    tab = shown(html)
    count = len(reports)

    def names() -> list[str]:
        return tab.eval_on_selector_all("#pictures tbody tr:not([hidden]) th", "all => all.map(e => e.textContent)")

    assert len(names()) == count
    assert tab.text_content("#shown") == f"{count} of {count} shown"
    tab.fill("#search", "CAMERA")
    by_probability = sorted(
        reports, key=lambda r: r.probability_generated if r.probability_generated is not None else -1
    )
    # The most suspicious first.
    ranked = [Path(report.source or "").name for report in by_probability][::-1]
    assert names() == [name for name in ranked if "camera" in name]
    assert tab.text_content("#shown") == f"{len(names())} of {count} shown"
    assert tab.locator("article.picture:visible").count() == len(names())
    tab.fill("#search", "")
    tab.uncheck("input[value=error]")
    assert "missing.png" not in names()
    tab.check("input[value=error]")

    tab.focus("[data-sort=probability] button")
    tab.keyboard.press("Enter")
    assert names() == ranked[::-1]
    assert tab.get_attribute("[data-sort=probability]", "aria-sort") == "ascending"
    tab.keyboard.press("Enter")
    assert names() == ranked
    tab.click("[data-sort=name] button")
    assert names() == sorted(names())
    assert tab.get_attribute("[data-sort=probability]", "aria-sort") is None
    tab.click(f"text={names()[0]} >> nth=0")
    assert tab.evaluate("location.hash").startswith("#picture-")


@needs_browser
def test_without_a_script_everything_is_there(telling: Parser, shown: Open) -> None:
    html, reports = page_of(telling, [*sample_files(), "missing.png"])
    tab = shown(html, java_script_enabled=False)
    assert tab.locator("article.picture").count() == len(reports)
    assert tab.locator("#tools").is_hidden()


@needs_browser
def test_dark_and_print_differ_from_light(parser: Parser, shown: Open) -> None:
    html, _ = page_of(parser, [sample_files()[0]])

    def ground(**options: str) -> str:
        tab = shown(html, color_scheme=options.get("scheme", "light"))
        tab.emulate_media(media=options.get("media", "screen"))
        return tab.evaluate("getComputedStyle(document.body).backgroundColor")

    assert ground() != ground(scheme="dark")
    assert ground(media="print") == ground(media="print", scheme="dark") == "rgb(255, 255, 255)"


@needs_browser
def test_nothing_is_wider_than_a_phone(telling: Parser, shown: Open) -> None:
    html, _ = page_of(telling, [sample_files()[0]])
    tab = shown(html, viewport={"width": 360, "height": 740})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


@needs_browser
def test_an_early_end_is_said(parser: Parser, shown: Open) -> None:
    look = parser.inspect(noise(150, 150))
    page = HtmlReport(parser.bundle, 30)
    page.add(look.report, look)
    assert "1 of 30 images were analysed" in shown(page.render(30)).inner_text("main")


def test_a_bundle_of_another_size_that_resizes_is_shown_as_it_is(parser: Parser) -> None:
    """Like published networks: the whole image in one small window, and a closed set of generators."""
    look = parser.inspect(noise(200, 300))
    report = replace(look.report, windows=1, family=None, architecture=None, losses=None, verdict="inconclusive")
    small = replace(
        look, report=report, corners=((0, 0),), scores=(0.5,), fingerprint=np.zeros((1, 3, 64, 64), np.float32)
    )
    published = replace(parser.bundle, window=64, framing="resize", outputs=("fingerprint", "attribution"), discrete=())
    page = HtmlReport(published, 1)
    page.add(report, small)
    html = page.render()
    assert re.search(r'class="outline" x="0" y="0" width="300" height="200"', html)
    assert "the whole image, resized to 64 \N{MULTIPLICATION SIGN} 64" in html
    assert 'width="64" height="64" alt="Fingerprint of the image"' in html
    assert "does not predict family, architecture and losses" in html
    for words_that_do_not_fit in (
        'width="128"',
        "Windows and scores",
        "better than a constant",
        "similarity",
        phrases.WINDOWS_ARE_NO_MAP,
    ):
        assert words_that_do_not_fit not in re.sub(
            r"data:image[^\"]*|<style>.*?</style>|<footer.*", "", html, flags=re.S
        )
    page = HtmlReport(replace(parser.bundle, window=64), 1)
    page.add(report, replace(small, corners=((0, 16),)))
    assert 'class="outline" x="16" y="0" width="64" height="64"' in page.render()


def test_a_bundle_that_does_not_answer_is_refused(parser: Parser) -> None:
    mute = replace(parser.bundle, outputs=tuple(name for name in parser.bundle.outputs if name != "generated"))
    for bundle in (mute, replace(parser.bundle, calibration=None)):
        with pytest.raises(BundleError, match="does not separate camera from generated"):
            HtmlReport(bundle, 1)


def test_more_pictures_get_less_each(parser: Parser) -> None:
    picture = noise(1000, 1000)
    sizes = []
    for expected in (1, 5, 50):
        look, page = parser.inspect(picture), HtmlReport(parser.bundle, expected)
        page.add(look.report, look)
        sizes.append(len(page.render(expected)))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 250_000


@needs_browser
def test_matrix_shows_every_pair(telling: Parser, shown: Open, browser: Browser, tmp_path: Path) -> None:
    done = telling.compare([noise(200, 200), noise(200, 200, 5), noise(200, 200), b"junk", "<&>.png"])
    file = tmp_path / "matrix.svg"
    file.write_text(matrix_svg(done), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(file.as_uri())
    probabilities = [f"{p.probability_same:.2f}" for p in done.pairs if p.probability_same is not None]
    numbers = tab.eval_on_selector_all("text.number", "all => all.map(t => t.textContent)")
    assert sorted(n for n in numbers if "." in n) == sorted(probabilities * 2)
    assert tab.locator(".none").count() == 25 - 6
    assert tab.locator(".same").count() == 2 * sum(bool(pair.same) for pair in done.pairs)
    assert "<&>.png" in (tab.text_content("svg") or "")
    tab.close()


def test_every_known_generator_is_shown_with_its_threshold(telling: Parser) -> None:
    look = telling.inspect(sample_files()[0])
    assert look.report.generator is not None
    candidates = (Candidate("the bundle's", 0.9, 0.871), Candidate("mine", 0.91, 0.923))
    report = replace(look.report, generator=replace(look.report.generator, candidates=candidates))
    page = HtmlReport(telling.bundle, 1)
    page.add(report, look)
    shown = page.render()
    assert "0.923 required" in shown
    assert "0.871 reached" in shown
