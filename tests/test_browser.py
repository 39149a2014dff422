"""In a real browser: the explorer by mouse, finger and keyboard, a chapter in JupyterLab, and the rendered pages.

`make browser` installs what this needs, but for the browser itself: Chromium or Chrome, as of the system.
"""

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

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: make browser"
)
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="needs axe: make browser"
)

import course
import vae_helpers as vh
from course import explorer
from course.data import load_sample
from tools import refresh

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
]  # one process, which renders the pages once
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
CHAPTER = "04_reconstruct_interpolate_sample.ipynb"
BADGES, NO_PICTURE = (
    "https://colab.research.google.com/assets/",
    '<svg xmlns="http://www.w3.org/2000/svg"/>',
)
MINUTES = 10  # for the chapter in JupyterLab; on an idle machine it takes half of one


@pytest.fixture(scope="module")
def chromium():
    """The system's browser, or Playwright's own."""
    with playwright.sync_playwright() as p:
        own = next(filter(None, map(shutil.which, BROWSERS)), None)
        try:
            browser = p.chromium.launch(executable_path=own)
        except playwright.Error as error:
            pytest.skip(
                f"needs a Chromium that starts, such as Debian's package: {str(error).splitlines()[0]}"
            )
        yield browser
        browser.close()


@pytest.fixture
def open_tab(chromium):
    """A function that opens an address in a tab, which must neither complain nor ask for anything from elsewhere."""
    complaints, contexts = [], []

    def opened(address, badges=False, **settings):
        context = chromium.new_context(**settings)
        contexts.append(context)
        home = (
            (re.match("http://[^/]+/", address) or re.match("file://.*/", address))[0],
            "data:",
            "blob:",
        )
        if badges:  # those at the top of a chapter are Colab's
            home += (BADGES,)
            context.route(
                f"{BADGES}**",
                lambda route: route.fulfill(
                    content_type="image/svg+xml", body=NO_PICTURE
                ),
            )
        context.on(
            "console",
            lambda said: said.type == "error" and complaints.append(said.text),
        )
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        context.on(
            "request",
            lambda asked: asked.url.startswith(home) or complaints.append(asked.url),
        )
        tab = context.new_page()
        tab.goto(address)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def faults(tab):
    """What axe calls serious or critical: its rule, and the first element that breaks it."""
    options = {
        "preload": False,
        "resultTypes": ["violations"],
    }  # axe itself is to ask for no files
    found = axe.Axe().run(tab, options=options).response["violations"]
    return [
        (rule["id"], rule["nodes"][0]["html"])
        for rule in found
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
    read = "() => [...document.querySelector('canvas').getContext('2d').getImageData(0, 0, 28, 28).data]"
    return np.array(tab.evaluate(read)).reshape(-1, 4)[:, 0].astype(int)


def values(tab):
    """The numbers beside the sliders, in the order of the dimensions."""
    read = "i => document.getElementById('z' + i).nextElementSibling.textContent"
    return np.array(
        [float(tab.evaluate(read, i).replace("\u2212", "-")) for i in range(10)]
    )


def most_used(page):
    return int(np.argmax(explorer.read(page)["kl"]))


def test_browser_decodes_what_keras_decodes(tab, page):
    z = np.random.default_rng(784).normal(size=(200, 10)).astype("float32")
    images = np.array(
        tab.evaluate("codes => codes.map(z => [...decode(z)])", z.tolist())
    )
    difference = np.abs(
        images - vh.load(course.REFERENCE / "vae_decoder.keras")(z)
    ).max()
    print(
        f"\nlargest pixel difference between browser and Keras on 200 draws: {difference:.4f}"
    )
    assert difference < 0.05
    assert np.allclose(images, explorer.decode(explorer.read(page), z), atol=1e-4)
    time = """() => { const times = [];
      for (let i = 0; i < 101; i++) {
        const z = Array.from({length: 10}, (_, j) => Math.sin(7 * j + i)), start = performance.now();
        decode(z); times.push(performance.now() - start); }
      return times.sort((a, b) => a - b)[50]; }"""
    print(f"median time to decode an image in the browser: {tab.evaluate(time):.2f} ms")


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
    tab.wait_for_selector("#status:has-text('Bag 1')")  # said when the slider rests
    assert "Bag 1" in tab.get_attribute("canvas", "aria-label")


def test_every_control_has_a_name_and_dead_dimensions_are_marked_in_words(tab, page):
    for control in tab.query_selector_all("input, select"):
        assert control.evaluate("node => node.labels[0].textContent.trim()")
    model = explorer.read(page)
    for i, kl in enumerate(model["kl"]):
        nothing = kl <= model["threshold"]
        assert tab.inner_text(f"#kl{i}") == (
            "carries nothing" if nothing else f"{kl:.2f} nats"
        )
        assert tab.get_attribute(f"#z{i}", "aria-describedby") == f"kl{i}"
    assert f"{model['difference']:.3f}" in tab.inner_text("#about"), (
        "how far pixels are off is told"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_explorer(open_tab, page, scheme):
    assert faults(open_tab(page.as_uri(), color_scheme=scheme)) == []


# ---------------------------------------------------------------- JupyterLab


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the course, in quick mode: its address, with {} for the place."""
    course = tmp_path_factory.mktemp("lab") / "course"
    left_out = shutil.ignore_patterns("build", ".*", "__pycache__")
    shutil.copytree(course.ROOT, course, ignore=left_out)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = os.urandom(16).hex()
    environment = {
        **os.environ,
        "VAE_COURSE_QUICK": "1",
        "FASHION_MNIST_DIR": str(course / "notebooks" / "data"),
    }
    for name in (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
    ):
        environment[name] = str(
            course.parent / name
        )  # the reader's own settings stay out of it
    settings = ["--ServerApp.allow_root=True", f"--ServerApp.port={port}", f"--IdentityProvider.token={token}",
                "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly",
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    log = course.parent / "jupyter.log"
    with log.open("w") as file:
        command = [
            sys.executable,
            "-m",
            "jupyter",
            "lab",
            "notebooks",
            "--no-browser",
            *settings,
        ]
        server = subprocess.Popen(
            command, cwd=course, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    address = f"http://127.0.0.1:{port}/{{}}?token={token}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(address.format("api/status"), timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (
                    f"JupyterLab did not start: {log.read_text()[-2000:]}"
                )
                time.sleep(1)
        else:
            pytest.fail(
                f"JupyterLab did not answer within two minutes: {log.read_text()[-2000:]}"
            )
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
    tab.evaluate(
        "jupyterapp.shell.currentWidget.context.sessionContext.ready.then(() => { window.ready = true })"
    )
    tab.wait_for_function("window.ready", timeout=120_000)
    tab.evaluate(
        "{ jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.done = true }) }"
    )
    try:
        tab.wait_for_function("window.done", timeout=MINUTES * 60_000)
    except playwright.TimeoutError:
        pytest.fail(
            f"{CHAPTER} did not get to its end in JupyterLab within {MINUTES} minutes."
        )
    notebook = nbformat.from_dict(
        tab.evaluate("jupyterapp.shell.currentWidget.model.toJSON()")
    )
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [
        output
        for output in outputs
        if output.output_type == "error" or output.get("name") == "stderr"
    ] == []
    assert all(
        cell.execution_count for cell in notebook.cells if cell.cell_type == "code"
    )
    place = next(
        i for i, cell in enumerate(notebook.cells) if "explorer.show" in cell.source
    )
    tab.evaluate(
        "i => jupyterapp.shell.currentWidget.content.scrollToItem(i, 'start')", place
    )
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
    """The folder of pages, made of the stored notebooks."""
    pages = pytest.importorskip("pages", reason="needs notebooks/pages.py")
    if not pages.installed():
        pytest.skip(pages.MISSING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "BUILD", tmp_path_factory.mktemp("build"))
        return pages.write({}, "").parent


def test_axe_finds_nothing_serious_in_the_rendered_pages(folder, open_tab):
    found = {}
    for path in folder.glob("*.html"):
        tab = open_tab(path.as_uri())
        found[path.name] = faults(tab)
        tab.close()
    assert not any(found.values()), found


def test_rendered_pages_are_whole_and_keyboard_leads_from_one_to_another(
    folder, open_tab
):
    names = sorted(path.name for path in folder.glob("*.html"))
    assert {
        "index.html",
        *(path.with_suffix(".html").name for path in refresh.chapters()[:4]),
    } <= set(names)
    for name in names:
        tab = open_tab((folder / name).as_uri())
        assert tab.locator("img:not([alt])").count() == 0, (
            f"{name}: a picture without alternative text"
        )
        assert tab.evaluate(
            "[...document.images].every(image => image.naturalWidth)"
        ), f"{name}: a broken picture"
        reached = set()
        for _ in range(60):
            tab.keyboard.press("Tab")
            reached.add(tab.evaluate("document.activeElement.getAttribute('href')"))
        assert any(address and ".html" in address for address in reached), (
            f"{name}: no other page by keyboard"
        )
        tab.close()
