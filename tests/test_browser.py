"""In a real browser: the explorer, a chapter in JupyterLab, and the rendered pages.

The explorer is used by mouse, finger and keyboard. `make browser` installs what this
needs, except for the browser itself: the system's Chromium or Chrome.
"""

import html
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import numpy as np
import pytest

import course
import vae_helpers as vh
from course import explorer
from course.data import load_sample
from tools import pages, refresh

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: make browser"
)
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="needs axe: make browser"
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),  # one process, which renders the pages once
]
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
CHAPTER = "04_reconstruct_interpolate_sample.ipynb"
BADGES = "https://colab.research.google.com/assets/"
NO_PICTURE = '<svg xmlns="http://www.w3.org/2000/svg"/>'
MINUTES = 10  # for the chapter in JupyterLab; an idle machine takes half a minute
# Chapters 03 and 05 still have longer lines.
WITHOUT_LONG_LINES = ("01_", "02_", "04_", "exercises")


@pytest.fixture(scope="module")
def chromium():
    """The system's browser, or Playwright's own."""
    with playwright.sync_playwright() as p:
        own = next(filter(None, map(shutil.which, BROWSERS)), None)
        try:
            browser = p.chromium.launch(executable_path=own)
        except playwright.Error as error:
            reason = str(error).splitlines()[0]
            pytest.skip(f"needs a Chromium that starts, such as Debian's: {reason}")
        yield browser
        browser.close()


@pytest.fixture
def open_tab(chromium):
    """A function that opens an address in a tab.

    The tab must neither report an error nor request anything from elsewhere.
    """
    complaints, contexts = [], []

    def opened(address, badges=False, **settings):
        context = chromium.new_context(**settings)
        contexts.append(context)
        server = re.match("http://[^/]+/", address) or re.match("file://", address)
        allowed = (server[0], "data:", "blob:")
        if badges:  # those at the top of a chapter are Colab's
            allowed += (BADGES,)
            picture = {"content_type": "image/svg+xml", "body": NO_PICTURE}
            context.route(f"{BADGES}**", lambda route: route.fulfill(**picture))

        def console(message):
            if message.type == "error":
                complaints.append(message.text)

        def request(request):
            if not request.url.startswith(allowed):
                complaints.append(request.url)

        context.on("console", console)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        context.on("request", request)
        tab = context.new_page()
        tab.goto(address)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def faults(tab):
    """What axe calls serious or critical: the rule, and the first element."""
    # Axe itself must not request any files.
    options = {"preload": False, "resultTypes": ["violations"]}
    violations = axe.Axe().run(tab, options=options).response["violations"]
    return [
        (rule["id"], rule["nodes"][0]["html"])
        for rule in violations
        if rule["impact"] in ("serious", "critical")
    ]


# ---------------------------------------------------------------- the explorer


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The reference models' explorer."""
    images, labels = load_sample()[2:]
    models = [
        vh.load(course.REFERENCE / f"{name}.keras")
        for name in ("vae_encoder", "vae_decoder")
    ]
    return explorer.write(
        tmp_path_factory.mktemp("explorer") / "explorer.html", *models, images, labels
    )


@pytest.fixture
def tab(open_tab, page):
    return open_tab(page.as_uri())


def pixels(tab):
    """The canvas, (784,) in 0 to 255; `tab` is a page or a frame."""
    read = """() => [...document.querySelector('canvas').getContext('2d')
      .getImageData(0, 0, 28, 28).data]"""
    return np.array(tab.evaluate(read)).reshape(-1, 4)[:, 0].astype(int)


def values(tab):
    """The numbers beside the sliders, in the order of the dimensions."""
    read = "i => document.getElementById('z' + i).nextElementSibling.textContent"
    texts = [tab.evaluate(read, i) for i in range(10)]
    return np.array([float(text.replace("\u2212", "-")) for text in texts])


def most_used(page):
    return int(np.argmax(explorer.read(page)["kl"]))


def test_browser_decodes_what_keras_decodes(tab, page):
    z = np.random.default_rng(784).normal(size=(200, 10)).astype("float32")
    decoded = tab.evaluate("codes => codes.map(z => [...decode(z)])", z.tolist())
    images, model = np.array(decoded), explorer.read(page)
    expected = np.asarray(vh.load(course.REFERENCE / "vae_decoder.keras")(z))
    difference = np.abs(images - expected).max()
    print(f"\nlargest difference between browser and Keras: {difference:.4f}")
    assert np.allclose(images, explorer.decode(model, z), atol=1e-4)
    # The bound that the page prints is for other codes from the same prior.
    assert difference < 0.1 and difference < 2 * model["difference"]


def test_mouse_drags_a_slider(tab, page):
    before, slider = pixels(tab), tab.locator(f"#z{most_used(page)}")
    box = slider.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2, steps=5)
    tab.mouse.up()
    assert values(tab)[most_used(page)] > 1.5 and np.count_nonzero(values(tab)) == 1
    assert np.abs(pixels(tab) - before).max() > 50
    tab.click("#zero")
    assert not values(tab).any() and np.array_equal(pixels(tab), before)


def test_finger_moves_a_slider_on_a_phone(open_tab, page):
    tab = open_tab(
        page.as_uri(),
        viewport={"width": 360, "height": 700},
        has_touch=True,
        is_mobile=True,
    )
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    before, slider = pixels(tab), tab.locator(f"#z{most_used(page)}")
    box = slider.bounding_box()
    assert box["height"] >= 44 and tab.locator("#random").bounding_box()["height"] >= 44
    slider.tap(position={"x": box["width"] * 0.9, "y": box["height"] / 2})
    assert (
        values(tab)[most_used(page)] > 1.5 and np.abs(pixels(tab) - before).max() > 50
    )


def test_a_new_tab_is_offered_in_one_frame_but_not_in_two(open_tab, page, tmp_path):
    """A notebook that is in a frame itself may refuse to open a tab."""
    text = page.read_text(encoding="utf-8")
    for nested in (False, True):
        text = f'<iframe srcdoc="{html.escape(text)}"></iframe>'
        outer = tmp_path / "outer.html"
        outer.write_text(text, encoding="utf-8")
        tab = open_tab(outer.as_uri())
        frame = tab.wait_for_selector("iframe").content_frame()
        if nested:
            frame = frame.wait_for_selector("iframe").content_frame()
        frame.wait_for_selector("#sliders input", state="attached")
        assert frame.locator("#alone").is_hidden() == nested


def test_keyboard_alone_reaches_every_control_and_shows_where_it_is(tab, page):
    before, reached = pixels(tab), []
    for _ in range(15):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.id"))
        assert (
            tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            == "solid"
        )
        if reached[-1] == f"z{most_used(page)}":
            for _ in range(30):
                tab.keyboard.press("ArrowRight")
    assert set(reached) == {
        "random",
        "zero",
        "from",
        "to",
        "way",
        *(f"z{i}" for i in range(10)),
    }
    assert (
        values(tab)[most_used(page)] == 1.5 and np.abs(pixels(tab) - before).max() > 50
    )


def test_random_garment_and_walk_between_two(tab, page):
    tab.focus("#random")
    tab.keyboard.press("Enter")
    first = values(tab)
    tab.keyboard.press("Enter")
    assert np.sum(first != values(tab)) > 7 and np.all(np.abs(values(tab)) < 6)
    model = explorer.read(page)
    a, b = (np.array(model["garments"][i]["z"]) for i in (2, 16))
    tab.select_option("#from", label="Trouser 1")
    tab.select_option("#to", label="Bag 1")
    assert np.allclose(values(tab), a, atol=0.006)
    tab.focus("#way")
    for _ in range(25):
        tab.keyboard.press("ArrowRight")
    assert np.allclose(values(tab), a + 0.25 * (b - a), atol=0.006)
    tab.keyboard.press("End")
    assert np.abs(pixels(tab) - 255 * explorer.decode(model, b[None])[0]).max() <= 2
    tab.wait_for_selector("#status:has-text('Bag 1')")  # when the slider rests
    assert "Bag 1" in tab.get_attribute("canvas", "aria-label")


def test_controls_have_names_and_inactive_dimensions_are_marked_in_words(tab, page):
    for control in tab.query_selector_all("input, select"):
        assert control.evaluate("node => node.labels[0].textContent.trim()")
    model = explorer.read(page)
    for i, kl in enumerate(model["kl"]):
        inactive = kl <= model["threshold"]
        assert tab.inner_text(f"#kl{i}") == (
            "inactive" if inactive else f"{kl:.2f} nats"
        )
        assert tab.get_attribute(f"#z{i}", "aria-describedby") == f"kl{i}"
    assert f"{model['difference']:.3f}" in tab.inner_text("#about")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_explorer(open_tab, page, scheme):
    assert faults(open_tab(page.as_uri(), color_scheme=scheme)) == []


# ---------------------------------------------------------------- JupyterLab


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the course, in quick mode: its address.

    It has {} where the path goes.
    """
    folder = tmp_path_factory.mktemp("lab")
    left_out = shutil.ignore_patterns("build", ".*", "__pycache__")
    shutil.copytree(course.ROOT, folder / "course", ignore=left_out)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = os.urandom(16).hex()
    sample = folder / "course" / course.SAMPLE.relative_to(course.ROOT)
    environment = {
        **os.environ,
        "VAE_COURSE_QUICK": "1",
        "FASHION_MNIST_DIR": str(sample),
    }
    for name in ("CONFIG_DIR", "DATA_DIR"):  # without the reader's own settings
        environment[f"JUPYTER_{name}"] = str(folder / name)
    for name in ("SETTINGS_DIR", "WORKSPACES_DIR"):
        environment[f"JUPYTERLAB_{name}"] = str(folder / name)
    settings = [
        "--ServerApp.allow_root=True",
        f"--ServerApp.port={port}",
        f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    log = folder / "jupyter.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", "notebooks", "--no-browser"]
            + settings,
            cwd=folder / "course",
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}/{{}}?token={token}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(address.format("api/status"), timeout=5).close()
                break
            except OSError:
                end = log.read_text()[-2000:]
                assert server.poll() is None, f"JupyterLab did not start: {end}"
                time.sleep(1)
        else:
            end = log.read_text()[-2000:]
            pytest.fail(f"JupyterLab did not answer within two minutes: {end}")
        yield address
    finally:
        server.terminate()
        server.wait(60)


def test_chapter_runs_in_jupyterlab_and_the_explorer_appears(lab, open_tab):
    tab = open_tab(
        lab.format(f"lab/tree/{CHAPTER}"),
        badges=True,
        viewport={"width": 1300, "height": 900},
    )
    tab.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
    tab.evaluate("""jupyterapp.shell.currentWidget.context.sessionContext.ready
      .then(() => { window.ready = true })""")
    tab.wait_for_function("window.ready", timeout=120_000)
    tab.evaluate("""{ jupyterapp.commands.execute('notebook:run-all-cells')
      .then(() => { window.done = true }) }""")
    try:
        tab.wait_for_function("window.done", timeout=MINUTES * 60_000)
    except playwright.TimeoutError:
        pytest.fail(f"{CHAPTER} did not end in JupyterLab within {MINUTES} minutes.")
    content = tab.evaluate("jupyterapp.shell.currentWidget.model.toJSON()")
    notebook = nbformat.from_dict(content)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    for output in (output for cell in code for output in cell.outputs):
        assert output.output_type != "error" and output.get("name") != "stderr", output
    place = next(
        i for i, cell in enumerate(notebook.cells) if "explorer.show" in cell.source
    )
    scroll = "i => jupyterapp.shell.currentWidget.content.scrollToItem(i, 'start')"
    tab.evaluate(scroll, place)
    element = tab.wait_for_selector(".jp-OutputArea iframe", timeout=30_000)
    element.scroll_into_view_if_needed()
    frame = element.content_frame()
    frame.wait_for_selector("#sliders input")
    before = pixels(frame)
    frame.locator("#sliders input").first.focus()
    for _ in range(30):
        tab.keyboard.press("ArrowRight")
    assert np.abs(pixels(frame) - before).max() > 50
    with tab.context.expect_page() as opened:  # the way out of the frame
        frame.locator("#alone").click()
    alone = opened.value
    alone.wait_for_selector("#sliders input")
    assert np.array_equal(pixels(alone), before) and alone.locator("#alone").is_hidden()


# ---------------------------------------------------------------- the rendered pages


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the pages of the stored notebooks."""
    if not pages.installed():
        pytest.skip(pages.MISSING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "BUILD", tmp_path_factory.mktemp("build"))
        return pages.write({}, "").parent


def test_axe_finds_nothing_serious_in_the_rendered_pages(folder, open_tab):
    found = {}
    for path in folder.rglob("*.html"):
        tab = open_tab(path.as_uri())
        found[path.name] = faults(tab)
        tab.close()
    assert not any(found.values()), found


def test_rendered_pages_are_complete_and_keyboard_leads_from_one_to_another(
    folder, open_tab
):
    paths = sorted(folder.rglob("*.html"))
    names = {path.relative_to(folder).as_posix() for path in paths}
    chapters = {f"notebooks/{path.stem}.html" for path in refresh.chapters()}
    assert {"index.html", "docs/mistakes.html", *chapters} <= names
    for path in paths:
        tab = open_tab(path.as_uri())
        without = tab.locator("img:not([alt])").count()
        assert without == 0, f"{path.name}: a picture without alternative text"
        complete = tab.evaluate("[...document.images].every(i => i.naturalWidth)")
        assert complete, f"{path.name}: a broken picture"
        reached = set()
        for _ in range(60):
            tab.keyboard.press("Tab")
            reached.add(tab.evaluate("document.activeElement.getAttribute('href')"))
        assert any(address and ".html" in address for address in reached), (
            f"{path.name}: no other page by keyboard"
        )
        tab.close()


def test_no_code_of_chapters_is_cut_off_at_1400_pixels(folder, open_tab):
    """A line that is too long gives its cell a horizontal scroll bar."""
    measure = """() => [...document.querySelectorAll('div.cell_input pre')].map(cell =>
      [cell.scrollWidth - cell.clientWidth, cell.textContent.slice(0, 100)])"""
    paths = sorted((folder / "notebooks").glob("*.html"))
    for path in [path for path in paths if path.name.startswith(WITHOUT_LONG_LINES)]:
        tab = open_tab(path.as_uri(), viewport={"width": 1400, "height": 900})
        cells = tab.evaluate(measure)
        tab.close()
        assert len(cells) >= 5, path.name
        assert [text for too_wide, text in cells if too_wide > 0] == [], path.name
