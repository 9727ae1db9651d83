from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.analysis import builders
from tests.analysis.report.browser import FOUND, Tab, tab

from rejoule.analysis.report import render
from rejoule.traces.runs import Experiment

pytestmark = pytest.mark.skipif(FOUND is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    traces = {"agentic": builders.trace(3), "search": builders.trace(4, "search", ("query", "answer"))}
    runs = builders.grid(traces, [1, 4, 16], [300.0, None])
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(runs, traces, Experiment({}, (), 1, 3, "0.1.0")))
    return file


async def click(page: Tab, selector: str) -> None:
    await page.value(f"document.querySelector({selector!r}).dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")


async def drawn(page: Tab, name: str) -> None:
    """Waits for a timeline."""
    await page.value(
        "new Promise(done => { const canvas = document.querySelector('.panel:not([hidden]) canvas.time');"
        "canvas.scrollIntoView({behavior: 'instant'});"
        f"const look = () => canvas.dataset.drawn === '{name}' ? done() : setTimeout(look, 5); look(); }})"
    )


async def test_every_control_works(page: Path) -> None:
    """On a desk and on a phone: choosing, tabs by key, maps, sorting, zoom, enlarging and Escape; no complaint, and
    nothing wider than the window."""
    async with tab() as found:
        for width, dark in ((1400, False), (390, True)):
            await found.open(page, width, dark=dark)
            assert await found.value("document.documentElement.scrollWidth") <= width
            first = await found.value("document.querySelector('#w0 .chosen dd').textContent")
            await click(found, "#w0 circle:not(.current)")
            label = await found.value("document.querySelector('#w0 [data-cell]').dataset.cell")
            assert await found.value("document.querySelector('#w0 .configuration').value") == label
            await found.value(
                "(() => { const s = document.querySelector('#w0 .configuration'); s.selectedIndex = 0;"
                "s.dispatchEvent(new Event('change')); })()"
            )
            assert await found.value("document.querySelector('#w0 .chosen dd').textContent") != first

            head = "document.querySelector('#w0 .heat thead').textContent"
            before = await found.value(head)
            await found.value(
                "(() => { const s = document.querySelectorAll('#w0 .choices select')[1]; s.value = '1';"
                "s.dispatchEvent(new Event('change')); })()"
            )
            assert "cap" in await found.value(head) and await found.value(head) != before

            sort = "#w0 table:not(.heat) th:nth-child(4) button"
            cells = "document.querySelectorAll('#w0 table:not(.heat) tbody td:nth-child(4)')"
            column = f"[...{cells}].map(cell => +cell.dataset.value)"
            await click(found, sort)
            assert await found.value(column) == sorted(await found.value(column))
            await click(found, sort)
            assert await found.value(column) == sorted(await found.value(column), reverse=True)

            await drawn(found, "w0-time-0")
            ink = "document.querySelector('#w0 canvas.time').toDataURL()"
            whole = await found.value(ink)
            await found.value("document.querySelector('#w0 canvas.time').focus()")
            await found.key("+")
            assert await found.value(ink) != whole
            await found.key("Escape")
            assert await found.value(ink) == whole
            await click(found, "#w0 [data-timeline='w0-time-1']")
            await drawn(found, "w0-time-1")

            await click(found, "#w0 [data-do='enlarge']")
            assert await found.value("document.querySelector('dialog').open")
            assert "modelled" in await found.value("document.querySelector('dialog .badge').textContent")
            await found.key("Escape")
            assert not await found.value("document.querySelector('dialog').open")

            await found.value("document.querySelector('#w0-tab').focus()")
            await found.key("ArrowRight")
            assert await found.value("document.activeElement.id") == "w1-tab"
            assert await found.value("[...document.querySelectorAll('.panel')].map(p => p.hidden)") == [True, False]
        assert not found.complaints


async def test_what_is_pointed_at_is_told(page: Path) -> None:
    """A call of the timeline says its node and its joules; a point says its configuration, by pointer and by key."""
    async with tab() as found:
        await found.open(page)
        await drawn(found, "w0-time-0")
        x, y = await found.value(
            "(() => { const r = document.querySelector('#w0 canvas.time').getBoundingClientRect();"
            "return [r.left + 70, r.top + 26]; })()"
        )
        await found.mouse("mouseMoved", x, y)
        said = await found.value("document.querySelector('.tip').textContent")
        assert "plan · agentic-0" in said and " J" in said
        await found.value("document.querySelector('#w0 .pick').scrollIntoView({block: 'center'})")
        await found.value("document.querySelector('#w0 .pick').focus({focusVisible: true})")
        await found.key("Enter")
        label = await found.value("document.activeElement.dataset.cell")
        assert await found.value("document.querySelector('#w0 .configuration').value") == label
        assert not found.complaints


TIME = "document.querySelector('canvas.time').timeline"


async def shown(page: Tab) -> tuple[Any, Any, dict[str, list[float]]]:
    """The share of the run's time that the first timeline shows, the share at which it begins, and values' ranges."""
    view = await page.value(f"(({{from, to, end, ranges}}) => [from / end, (to - from) / end, ranges])({TIME}.view)")
    return view[1], view[0], view[2]


async def spot(page: Tab, track: str, across: float, down: float) -> tuple[float, float]:
    """A point of a track of the first timeline, by shares of its room."""
    found = await page.value(
        f"(() => {{ const t = {TIME}, r = t.canvas.getBoundingClientRect(), k = t.laid.find(k => k.kind === '{track}');"
        f"return [r.left + t.x(t.from + {across} * (t.to - t.from)), r.top + k.top + k.height * {down}]; }})()"
    )
    return found[0], found[1]


async def test_a_box_zooms_in_and_a_double_click_out(page: Path) -> None:
    """Into time and lanes, or a track's values; a flat box into time alone. Desk and phone, light and dark."""
    async with tab() as found:
        for width, dark in ((1400, False), (390, True)):
            await found.open(page, width, dark=dark)
            await drawn(found, "w0-time-0")
            whole = await found.value(f"{TIME}.canvas.toDataURL()")
            await found.drag(await spot(found, "lanes", 0.25, 0.1), await spot(found, "lanes", 0.5, 0.5))
            span, start, ranges = await shown(found)
            assert (span, start) == (pytest.approx(0.25, abs=0.02), pytest.approx(0.25, abs=0.02))
            lanes = await found.value(f"{TIME}.run.lanes")
            assert ranges["lanes"] == [int(0.1 * lanes), -(-lanes // 2)]
            assert "shown: " in await found.value(f"{TIME}.canvas.getAttribute('aria-label')")
            assert await found.value(f"{TIME}.canvas.toDataURL()") != whole
            await found.double_click(*await spot(found, "lanes", 0.5, 0.5))
            assert await shown(found) == (1.0, 0.0, {})
            assert await found.value(f"{TIME}.canvas.toDataURL()") == whole

            await found.drag(await spot(found, "power", 0.2, 0.5), await spot(found, "power", 0.6, 1.0))
            span, _, ranges = await shown(found)
            low, high = ranges["power"]
            assert span == pytest.approx(0.4, abs=0.02) and low == 0.0
            assert high == pytest.approx(0.5 * await found.value(f"{TIME}.laid.at(-1).most"), rel=0.05)
            await click(found, "#w0 [data-zoom=all]")
            await found.drag(await spot(found, "lanes", 0.2, 0.5), await spot(found, "lanes", 0.6, 0.51))
            span, _, ranges = await shown(found)
            assert span == pytest.approx(0.4, abs=0.02) and ranges == {}
        assert not found.complaints


async def test_keys_and_a_wheel_do_what_a_mouse_does(page: Path) -> None:
    """Lanes by brackets and arrows, the wheel with Ctrl about the pointer; without, the page scrolls."""
    async with tab() as found:
        await found.open(page)
        await drawn(found, "w0-time-0")
        await found.value(f"{TIME}.canvas.focus({{preventScroll: true}})")
        await found.key("]")
        first = (await shown(found))[2]["lanes"]
        await found.key("ArrowUp")
        assert (await shown(found))[2]["lanes"][0] < first[0]
        for _ in range(5):
            await found.key("[")
        assert (await shown(found))[2] == {}

        place = await spot(found, "lanes", 0.3, 0.5)
        before = await found.value(f"{TIME}.time({TIME}.x({TIME}.run.end * 0.3))")
        await found.wheel(*place, -100, ctrl=True)
        span, start, _ = await shown(found)
        assert span < 0.6 and start + 0.3 * span == pytest.approx(0.3, abs=0.01) and before > 0.0
        await found.wheel(*place, 100)
        assert (await shown(found))[:2] == (span, start)
        await found.key("Escape")
        assert await shown(found) == (1.0, 0.0, {})
        assert not found.complaints


async def test_fingers_zoom_and_move(page: Path) -> None:
    """On a phone two fingers draw apart what lies between them, one moves what is zoomed into, and on the whole of it
    one draws a box."""
    async with tab() as found:
        await found.open(page, 390)
        await found.call("Emulation.setTouchEmulationEnabled", enabled=True)
        await drawn(found, "w0-time-0")
        a, b, c, d = [await spot(found, "lanes", share, 0.5) for share in (0.4, 0.6, 0.2, 0.8)]
        await found.fingers([a, b], [c, d])
        span, start, _ = await shown(found)
        assert (span, start) == (pytest.approx(1 / 3, abs=0.03), pytest.approx(1 / 3, abs=0.03))
        await found.fingers([d], [b], [a])
        moved = await shown(found)
        assert moved[0] == pytest.approx(span) and moved[1] > start
        await click(found, "#w0 [data-zoom=all]")
        await found.fingers([c], [a], [b])
        assert (await shown(found))[0] < 0.6
        assert not found.complaints


async def test_a_saved_timeline_is_the_stretch_that_was_shown(page: Path, tmp_path: Path) -> None:
    """And its name says which; zooming is kept over light and dark."""
    async with tab() as found:
        await found.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        await found.open(page)
        await drawn(found, "w0-time-0")
        await found.drag(await spot(found, "lanes", 0.25, 0.1), await spot(found, "lanes", 0.5, 0.5))
        before = await shown(found)
        await found.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        assert await shown(found) == before
        await found.value(f"{TIME}.box.querySelector('[data-do=save]').click()")
        await until(lambda: bool([*tmp_path.glob("*.png")]))
        (file,) = tmp_path.glob("*.png")
        assert re.search(r"-[\d-]+-to-[\d-]+-s-lanes-\d+-to-\d+\.png$", file.name), file.name
        assert not found.complaints


async def test_all_of_it_is_printed(page: Path) -> None:
    """On paper every workload has its name above its pictures, timelines are drawn, no row of a table is missing, and
    the table of all runs lies across the page."""
    async with tab() as found:
        await found.open(page)
        undrawn = "document.querySelectorAll('canvas.time:not([data-drawn])').length"
        await found.value(
            f"new Promise(done => {{ const look = () => {undrawn} ? setTimeout(look, 5) : done(); look(); }})"
        )
        paper = await found.call("Page.printToPDF", preferCSSPageSize=True)
        sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", base64.b64decode(paper["data"]))
        across = [float(width) > float(height) for width, height in sizes]
        assert across.count(True) == 2 and not across[0]
        assert await found.value("document.querySelectorAll('.panel[hidden]').length") == 1
        await found.call("Emulation.setEmulatedMedia", media="print")
        await found.value("dispatchEvent(new Event('beforeprint'))")
        seen = "filter(e => e.getBoundingClientRect().height > 0)"
        names = await found.value(f"[...document.querySelectorAll('.of')].{seen}.map(e => e.textContent)")
        assert names == ["agentic", "search"]
        assert await found.value(f"[...document.querySelectorAll('canvas.time')].{seen}.length") == 2
        assert await found.value(f"[...document.querySelectorAll('tbody tr')].every(e => [e].{seen}.length)")
        assert not found.complaints


async def test_a_saved_picture_says_what_it_is_of(page: Path, tmp_path: Path) -> None:
    """Away from the page it names its workload, its configuration if it is of one, and whose joules it has."""
    async with tab() as found:
        await found.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        await found.open(page)
        await click(found, "#w1-tab")
        await drawn(found, "w1-time-0")
        label = await found.value("document.querySelector('#w1 .configuration').value")
        count = await found.value("document.querySelectorAll('#w1 [data-do=save]').length")

        def there(wanted: int) -> bool:
            return len([*tmp_path.glob("*.svg"), *tmp_path.glob("*.png")]) == wanted

        for number in range(count):
            await found.value(f"document.querySelectorAll('#w1 [data-do=save]')[{number}].click()")
            await until(partial(there, number + 1))
        assert all(file.name.startswith("search-") for file in tmp_path.iterdir())
        said = []
        for file in tmp_path.glob("*.svg"):
            texts = [text.text or "" for text in ElementTree.parse(file).iter("{http://www.w3.org/2000/svg}text")]
            assert any(text.startswith("search: ") for text in texts) and any("modelled" in text for text in texts)
            assert "var(--" not in file.read_text()
            said += texts
        assert f"search: Where the joules went, {label}" in said
        (time,) = tmp_path.glob("*.png")
        assert time.read_bytes().startswith(b"\x89PNG") and re.sub(r"[^a-z0-9]+", "-", label.lower()) in time.name
        assert not found.complaints


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.02)
