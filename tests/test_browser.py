"""In a real browser: the explorer, a chapter in JupyterLab, and the rendered pages.

The explorer is used by mouse, finger and keyboard. `make browser` installs what this
needs, except for the browser itself: the system's Chromium or Chrome.
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

import course
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
                complaints.append(f"{message.text} {message.location}")

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
    """The map of the reference models."""
    return pages.reference_map(tmp_path_factory.mktemp("explorer") / "explorer.html")


@pytest.fixture
def tab(open_tab, page):
    return ready(open_tab(page.as_uri(), viewport=DESKTOP))


DESKTOP = {"width": 1400, "height": 1000}
PHONE = {
    "viewport": {"width": 360, "height": 740},
    "has_touch": True,
    "is_mobile": True,
}


def ready(tab):
    """The tab (or frame) when the page in it has started."""
    wait(tab, "window.explorer !== undefined")
    return tab


def wait(tab, expression):
    """Until it is true; the page's own rules forbid `wait_for_function`."""
    for _ in range(300):
        if tab.evaluate(expression):
            return
        time.sleep(0.1)
    pytest.fail(f"{expression} did not become true within 30 seconds")


def frames(tab):
    """Wait until what was changed is drawn."""
    tab.evaluate("() => new Promise(r => requestAnimationFrame(() => setTimeout(r)))")


def pixels(tab, canvas="#picture"):
    """A canvas of 28 x 28, (784,) in 0 to 255; `tab` is a page or a frame."""
    frames(tab)
    read = """name => [...document.querySelector(name).getContext('2d')
      .getImageData(0, 0, 28, 28).data]"""
    return np.array(tab.evaluate(read, canvas)).reshape(-1, 4)[:, 0].astype(int)


def state(tab, key):
    frames(tab)
    value = tab.evaluate("key => Array.from(explorer.state[key])", key)
    return np.array(value)


def on_map(tab, point):
    """Where a point of the plane is on the screen: x and y, for the mouse."""
    box = tab.locator("#map").bounding_box()
    model = "explorer.state.model"
    half, middle = tab.evaluate(f"{model}.half"), tab.evaluate(f"{model}.middle")
    u, v = (point - np.array(middle)) / (2 * half)
    return box["x"] + box["width"] * (0.5 + u), box["y"] + box["height"] * (0.5 - v)


def choose(tab, name):
    tab.locator("#models label", has_text=name).click()


def test_ring_moves_until_touched_and_not_for_readers_who_want_no_motion(
    open_tab, page
):
    for motion, moves in (("no-preference", True), ("reduce", False)):
        tab = ready(open_tab(page.as_uri(), viewport=DESKTOP, reduced_motion=motion))
        first = state(tab, "point")
        time.sleep(0.5)
        assert np.array_equal(state(tab, "point"), first) != moves
        tab.keyboard.press("Tab")
        first = state(tab, "point")
        time.sleep(0.3)
        assert np.array_equal(state(tab, "point"), first)


def decoded(tab, z):
    """What the page decodes, as grey values (784,); node's tests compare it with Keras."""
    image = "z => [...explorer.decode(explorer.state.model, z)]"
    return 255 * np.array(tab.evaluate(image, list(map(float, z)))).clip(0, 1)


def test_mouse_drags_the_ring_and_decodes_what_lies_there(tab):
    tab.mouse.move(*on_map(tab, [0.0, 0.0]))
    tab.mouse.down()
    for point in ([1.0, -0.5], [-1.0, 1.5]):
        tab.mouse.move(*on_map(tab, point))
        assert np.allclose(state(tab, "z"), point, atol=0.03)
        assert np.abs(pixels(tab) - decoded(tab, state(tab, "z"))).max() <= 2
    tab.wait_for_selector("#status:has-text('At ')")


def test_click_picks_a_garment_and_off_the_map_the_page_says_so(tab):
    choose(tab, "VAE, 10")
    tab.mouse.click(*on_map(tab, [0.5, 0.5]))
    tab.wait_for_selector("#status:has-text('\u2212ELBO')")  # not the model's first
    assert "Off the map; its nearest place is" in tab.inner_text("#status")
    assert tab.inner_text("#picture-title") == "Decoded here (a code off this map)"
    rows = tab.locator("#nats tr").all_inner_texts()
    numbers = [float(row.split("\t")[1].replace("\u2212", "-")) for row in rows]
    assert abs(numbers[0] + numbers[1] - numbers[2]) < 0.11
    tab.mouse.down()
    tab.mouse.move(*on_map(tab, [0.0, 0.0]))
    tab.wait_for_selector("#status:has-text('At ')")


def test_finger_explores_and_picks_on_a_phone(open_tab, page):
    tab = ready(open_tab(page.as_uri(), **PHONE))
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    for control in ("#link", "#encoded summary", "#models label >> nth=0"):
        assert tab.locator(control).bounding_box()["height"] >= 43
    box = tab.locator("#map").bounding_box()
    assert box["y"] + box["height"] < 700, "below the map a finger can scroll"
    first = tab.evaluate("explorer.state.picked")
    send = tab.context.new_cdp_session(tab).send
    x, y = on_map(tab, [0.0, 0.0])
    event = "Input.dispatchTouchEvent"
    send(event, {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 6):
        at = {"x": x + 12 * step, "y": y - 8 * step}
        send(event, {"type": "touchMove", "touchPoints": [at]})
    send(event, {"type": "touchEnd", "touchPoints": []})
    moved = state(tab, "point")
    assert moved[0] > 0.3 and moved[1] > 0.2
    assert tab.evaluate("explorer.state.picked") == first, "a drag picks nothing"
    tab.touchscreen.tap(*on_map(tab, [-1.0, -0.5]))
    frames(tab)
    assert tab.evaluate("explorer.state.picked") != first


def test_keyboard_moves_picks_and_reaches_every_control(tab):
    tab.focus("#map")
    tab.keyboard.press("Tab")
    start, half = state(tab, "point"), tab.evaluate("explorer.state.model.half")
    tab.focus("#map")
    for key in ["Shift+ArrowRight"] * 3 + ["ArrowUp"]:
        tab.keyboard.press(key)
    expected = [half * 3 / 8, half / 40]
    assert np.allclose(state(tab, "point") - start, expected, atol=1e-3)
    tab.keyboard.press("Enter")
    assert not np.allclose(state(tab, "point") - start, expected, atol=1e-3)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    reached = set()
    for _ in range(50):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.id"))
        outline = """() => { const node = document.activeElement;
          const shown = node.type === 'radio' ? node.nextElementSibling : node;
          return getComputedStyle(shown).outlineStyle; }"""
        if tab.evaluate("document.activeElement !== document.body"):
            assert tab.evaluate(outline) == "solid"
    controls = "link pad erase empty restore cloud twenty path zero plane"
    assert set(controls.split()) < reached


def test_all_models_decode_the_same_draws(tab):
    tab.locator("#draws summary").click()
    tab.click("#twenty")
    assert tab.locator("#strips canvas").count() == 3
    strip = """() => [...document.querySelector('#strips canvas').getContext('2d')
      .getImageData(271, 31, 28, 28).data]"""
    z = tab.evaluate("[...explorer.state.draws[19]]")
    shown = np.array(tab.evaluate(strip)).reshape(-1, 4)[:, 0]
    assert np.abs(shown - decoded(tab, z)).max() <= 2
    tab.click("#cloud")
    assert tab.locator("#cloud-strip").is_visible()


def test_path_plays_and_a_place_has_an_address(tab, open_tab, page):
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.locator("#path").check()
    tab.evaluate("scrollTo(0, 0)")
    points = [[-1.0, 0.0], [1.0, 0.0], [1.0, 1.0]]
    tab.mouse.move(*on_map(tab, points[0]))
    tab.mouse.down()
    for point in points[1:]:
        tab.mouse.move(*on_map(tab, point), steps=10)
    tab.mouse.up()
    wait(tab, "explorer.state.point[0] < -0.5")  # the film's beginning
    wait(tab, "explorer.state.point[1] > 0.99")
    address = tab.evaluate("explorer.addressOf()")
    other = ready(open_tab(page.as_uri() + address, viewport=DESKTOP))
    assert np.allclose(state(other, "z"), points[-1], atol=0.05)
    z = [1.5, -0.5] + 16 * [0]
    place = f"{page.as_uri()}#model=ae18&z={','.join(map(str, z))}"
    other = ready(open_tab(place, viewport=DESKTOP))
    assert np.allclose(state(other, "z"), z)
    assert other.evaluate("explorer.state.model.name").startswith("Autoencoder")
    damaged = "#model=vae2&image=9999&z=1.5,"
    other = ready(open_tab(f"{page.as_uri()}{damaged}-", viewport=DESKTOP))
    assert np.isfinite(state(other, "point")).all() and state(other, "image").any()


def test_what_is_drawn_is_encoded_and_its_posterior_appears(tab):
    wait(tab, "explorer.state.posterior")
    before = tab.inner_text("#posterior-note")
    tab.click("#empty")
    assert (
        tab.inner_text("#picked") == "empty: draw a garment on it, with mouse or finger"
    )
    box = tab.locator("#pad").bounding_box()
    at = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + box["width"] / 4, at)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 3 / 4, at, steps=2)  # a fast stroke
    tab.mouse.up()
    image = state(tab, "image").reshape(28, 28)
    assert np.all(image[14, 8:20] == 1) and not image[:12].any()
    frames(tab)
    assert tab.inner_text("#posterior-note") != before
    tab.focus("#pad")
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", " "):
        tab.keyboard.press(key)
    assert state(tab, "image").reshape(28, 28)[11].max() == 1
    tab.click("#restore")
    assert tab.inner_text("#picked").endswith("from the map")


def test_sliders_change_the_code(tab):
    choose(tab, "VAE, 10")
    tab.locator("#sliders-view summary").click()
    tab.click("#zero")
    before, slider = pixels(tab), tab.locator("#sliders input").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    tab.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2)
    assert np.count_nonzero(state(tab, "z")) == 1 and state(tab, "z").max() > 1.5
    assert np.abs(pixels(tab) - before).max() > 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_the_map(open_tab, page, scheme):
    tab = ready(open_tab(page.as_uri(), color_scheme=scheme))
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.click("#twenty")
    assert faults(tab) == []


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
        i for i, cell in enumerate(notebook.cells) if "page.show" in cell.source
    )
    scroll = "i => jupyterapp.shell.currentWidget.content.scrollToItem(i, 'start')"
    tab.evaluate(scroll, place)
    element = tab.wait_for_selector(".jp-OutputArea iframe", timeout=30_000)
    element.scroll_into_view_if_needed()
    frame = element.content_frame()
    ready(frame)
    before = pixels(frame)
    frame.locator("#map").focus()
    for _ in range(3):
        tab.keyboard.press("Shift+ArrowRight")
    assert np.abs(pixels(frame) - before).max() > 20
    with tab.context.expect_page() as opened:  # the way out of the frame
        frame.locator("#alone").click()
    alone = ready(opened.value)
    assert alone.locator("#alone").is_hidden()


# ---------------------------------------------------------------- the rendered pages


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the pages of the stored notebooks, with the reference models' map."""
    if not pages.installed():
        pytest.skip(pages.MISSING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "BUILD", tmp_path_factory.mktemp("build"))
        maps = tmp_path_factory.mktemp("maps")
        pages.reference_map(maps / "map.html")
        return pages.write({}, "", maps).parent


# Width, height, and pixels per CSS pixel of phones, tablets and laptops.
SCREENS = [
    (320, 568, 2), (360, 740, 3), (375, 667, 2), (390, 844, 3), (412, 915, 2.625),
    (430, 932, 3), (768, 1024, 2), (820, 1180, 2), (1366, 768, 1), (1440, 900, 2),
]  # fmt: skip


@pytest.mark.parametrize("width, height, scale", SCREENS)
def test_first_page_and_its_map_start_on_real_screens(
    folder, open_tab, width, height, scale
):
    tab = open_tab(
        (folder / "index.html").as_uri(),
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        has_touch=width < 1000,
        is_mobile=width < 1000,
    )
    if width < 1000:  # a picture that opens the map
        assert not tab.locator("iframe").is_visible()
        tab.locator(".door").tap()
        tab.wait_for_url("**/map.html")
        frame = tab
    else:
        element = tab.wait_for_selector("iframe")
        element.scroll_into_view_if_needed()
        frame = element.content_frame()
    ready(frame)
    for name in ("Autoencoder", "VAE, 10"):
        choose(frame, name)
        assert frame.evaluate("explorer.state.model.name").startswith(name)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_training_page_learns_and_pauses(folder, open_tab):
    tab = open_tab((folder / "train.html").as_uri(), **PHONE)
    shown = tab.locator("[data-part=numbers]")
    playwright.expect(shown).to_have_text(re.compile("^epoch [2-9]"), timeout=60_000)
    tab.locator("#go").tap()
    tab.wait_for_timeout(500)  # what was on its way arrives
    before = shown.inner_text()
    tab.wait_for_timeout(1_500)
    assert shown.inner_text() == before


def test_axe_finds_nothing_serious_in_the_rendered_pages(folder, open_tab):
    found = {}
    for name in ("index", "train", "notebooks/03_vae", "docs/mistakes", "search"):
        tab = open_tab((folder / f"{name}.html").as_uri())
        found[name] = faults(tab)
        tab.close()
    assert not any(found.values()), found


def test_rendered_pages_are_complete(folder, open_tab):
    alone = ("map.html", "train.html")
    paths = [p for p in sorted(folder.rglob("*.html")) if p.name not in alone]
    names = {path.relative_to(folder).as_posix() for path in paths}
    chapters = {f"notebooks/{path.stem}.html" for path in refresh.chapters()}
    assert {"index.html", "docs/mistakes.html", *chapters} <= names
    for path in paths:
        tab = open_tab(path.as_uri())
        without = tab.locator("img:not([alt])").count()
        assert without == 0, f"{path.name}: a picture without alternative text"
        complete = tab.evaluate("[...document.images].every(i => i.naturalWidth)")
        assert complete, f"{path.name}: a broken picture"
        tab.close()


def test_search_works_without_a_server(folder, open_tab):
    tab = open_tab(f"{(folder / 'search.html').as_uri()}?q=posterior+collapse")
    tab.wait_for_selector("#search-results li a")
    addresses = [
        link.get_attribute("href")
        for link in tab.query_selector_all("#search-results a")
    ]
    assert any(re.search("0[3-7]_", address) for address in addresses)
