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

import keras
import nbformat
import numpy as np
import pytest
from PIL import Image
from test_explorer import in_double

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


def principal_components(x):
    """A VAE of two dimensions without training: PCA of images x (n, 784)."""
    mean = x.mean(axis=0)
    _, sizes, rows = np.linalg.svd(x - mean, full_matrices=False)
    scale = sizes[:2] / len(x) ** 0.5
    kernel = rows[:2].T / scale
    image, z = keras.Input((784,)), keras.Input((2,))
    z_mean, z_log_var = keras.layers.Dense(2), keras.layers.Dense(2)
    encoder = keras.Model(image, [z_mean(image), z_log_var(image)])
    z_mean.set_weights([kernel, -mean @ kernel])
    z_log_var.set_weights([np.zeros((784, 2)), np.array([-4.0, -3.0])])
    reconstruction = keras.layers.Dense(784)
    decoder = keras.Model(z, reconstruction(z))
    reconstruction.set_weights([(rows[:2].T * scale).T, mean])
    return encoder, decoder


@pytest.fixture(scope="module")
def pairs():
    """The models of the page: with two dimensions, ten, and an autoencoder."""
    names = ("vae_encoder", "vae_decoder", "autoencoder")
    *vae, autoencoder = (vh.load(course.REFERENCE / f"{n}.keras") for n in names)
    two = principal_components(load_sample()[0])
    return [two, vae, vh.split_autoencoder(autoencoder)]


@pytest.fixture(scope="module")
def page(tmp_path_factory, pairs):
    """The page of these models."""
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    return explorer.write(path, *pairs[0], *load_sample()[2:], others=pairs[1:])


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


def drawing(tab, canvas="#map"):
    """All that a canvas shows, as text."""
    frames(tab)
    return tab.evaluate("name => document.querySelector(name).toDataURL()", canvas)


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


def look_at_sliders(tab):
    choose(tab, "VAE, 10")
    tab.locator("label", has_text="Sliders").click()


def values(tab):
    """The numbers beside the sliders, in the order of the dimensions."""
    frames(tab)
    read = "i => document.getElementById('z' + i).nextElementSibling.textContent"
    texts = [tab.evaluate(read, i) for i in range(10)]
    return np.array([float(text.replace("\u2212", "-")) for text in texts])


def most_used(page):
    return int(np.argmax(explorer.read(page)["models"][1]["use"]))


def test_browser_computes_what_keras_computes(tab, page, pairs):
    x = load_sample()[2][400:600].astype("float64")
    rng = np.random.default_rng(784)
    codes = [rng.normal(size=(200, d)) for d in (2, 10, 18)]
    results = tab.evaluate(
        """([codes, images]) => explorer.page.models.map((model, k) => [
          codes[k].map(z => [...explorer.decode(model, z)]),
          images.map(image => {
            const { mean, bound, entropy } = explorer.measure(model, image);
            return [...mean, bound, entropy]; })])""",
        [[z.tolist() for z in codes], x.tolist()],
    )
    entropy = np.asarray(vh.bernoulli_nll(x, x))
    models = explorer.read(page)["models"]
    for (decoded, measured), model, z, pair in zip(results, models, codes, pairs):
        measured, d = np.array(measured), model["dimensions"]
        assert np.allclose(decoded, explorer.decode(model, z), atol=1e-4)
        assert np.allclose(measured[:, :d], explorer.encode(model, x)[0], atol=1e-3)
        assert np.allclose(measured[:, d], explorer.score(model, x), atol=0.01)
        assert np.allclose(measured[:, d + 1], entropy, atol=0.01)
        encoder, decoder = map(in_double, pair)
        mean, *log_var = (encoder(x),) if d == 18 else encoder(x)
        kl, sd = 0, 0
        if log_var:
            kl = np.asarray(vh.kl_to_prior(mean, log_var[0])).sum(axis=1)
            sd = np.exp(0.5 * np.asarray(log_var[0]))
        draws = [decoder(mean + sd * noise) for noise in model["noise"]]
        nats = kl + np.mean([vh.bernoulli_nll(x, draw) for draw in draws], axis=0)
        pixel = np.abs(decoded - np.asarray(decoder(z))).max()
        largest = np.abs(measured[:, d] - nats).max()
        print(
            f"\n{model['name']}: largest difference between browser and Keras: "
            f"pixel {pixel:.4f}, -ELBO {largest:.3f} nats"
        )
        assert pixel < 0.1 and largest < 2


def test_page_is_ready_and_a_move_is_drawn_quickly(open_tab, page):
    """The times are printed; only what no slow machine explains is a fault."""
    start = time.perf_counter()
    tab = ready(open_tab(page.as_uri(), viewport=DESKTOP))
    seconds = time.perf_counter() - start
    measure = """name => {
      const times = [], { state, setPoint, frame } = explorer;
      const map = document.getElementById('map').getContext('2d');
      for (let i = 0; i < 320; i++) {
        const { middle, half } = state.model, turn = i / 20;
        const start = performance.now();
        setPoint([middle[0] + half * i / 400 * Math.cos(turn),
                  middle[1] + half * i / 400 * Math.sin(turn)]);
        frame();
        map.getImageData(0, 0, 1, 1);  // until the canvas is really drawn
        times.push(performance.now() - start);
      }
      return times.slice(20).sort((a, b) => a - b)[284]; }"""
    print(f"\nready after {seconds:.2f} s; 95th percentile of 300 moves:")
    for name in ("VAE, 2", "VAE, 10", "Autoencoder"):
        choose(tab, name)
        tab.locator("#plane").check()
        wait(tab, "explorer.state.model.decoded === 400")
        percentile = tab.evaluate(measure, name)
        print(f"  {name}: {percentile:.1f} ms")
        assert percentile < 160
    assert seconds < 10


def test_mouse_over_the_map_decodes_what_lies_there(tab, page):
    model, before = explorer.read(page)["models"][0], drawing(tab)
    for point in ([1.0, -0.5], [-1.0, 1.5]):
        tab.mouse.move(*on_map(tab, point))
        assert np.allclose(state(tab, "z"), point, atol=0.03)
        expected = explorer.decode(model, state(tab, "z")[None])[0].clip(0, 1)
        assert np.abs(pixels(tab) - 255 * expected).max() <= 2
    assert drawing(tab) != before
    page_read = explorer.read(page)
    codes, labels = page_read["models"][0]["codes"], page_read["labels"]
    boots = np.median(codes[labels == 9] * page_read["models"][0]["scale"], axis=0)
    tab.mouse.move(*on_map(tab, boots))
    tab.wait_for_selector("#status:has-text('ankle boots')")
    assert "ankle boots" in tab.get_attribute("#picture", "aria-label")


def test_click_on_a_garment_shows_its_cloud_reconstruction_and_nats(tab, page, pairs):
    read, i = explorer.read(page), 17
    code = read["models"][0]["codes"][i] * read["models"][0]["scale"]
    before = drawing(tab)
    tab.mouse.click(*on_map(tab, code))
    frames(tab)
    picked = tab.evaluate("explorer.state.picked")
    x = read["pictures"][picked][None].astype("float32") / 255
    at = read["models"][0]["codes"][picked] * read["models"][0]["scale"]
    assert np.linalg.norm(at - code) < 0.05 and drawing(tab) != before
    assert vh.CLASS_NAMES[read["labels"][picked]] in tab.inner_text("#picked")
    encoder, decoder = pairs[0]
    z_mean, z_log_var = map(np.asarray, encoder(x))
    expected = 255 * np.asarray(decoder(z_mean))[0].clip(0, 1)
    assert np.abs(pixels(tab, "#reconstruction") - expected).max() < 26
    rows = tab.locator("#nats tr").all_inner_texts()
    numbers = [float(row.split("\t")[1].replace("\u2212", "-")) for row in rows]
    reconstruction, kl, bound, entropy, excess = numbers
    assert abs(kl - vh.kl_to_prior(z_mean, z_log_var).numpy().sum()) < 0.2
    assert abs(entropy - vh.pixel_entropy(x)) < 0.1
    assert abs(reconstruction + kl - bound) < 0.11
    assert abs(bound - entropy - excess) < 0.11


def test_finger_explores_and_picks_on_a_phone(open_tab, page):
    tab = ready(open_tab(page.as_uri(), **PHONE))
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    for control in ("#random", "#twenty", "#empty"):
        assert tab.locator(control).bounding_box()["height"] >= 44
    before, first = pixels(tab), tab.evaluate("explorer.state.picked")
    tab.locator("#map").scroll_into_view_if_needed()
    send = tab.context.new_cdp_session(tab).send
    x, y = on_map(tab, [0.0, 0.0])
    send(
        "Input.dispatchTouchEvent",
        {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]},
    )
    for step in range(1, 6):
        at = {"x": x + 12 * step, "y": y - 8 * step}
        send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [at]})
    send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    moved = state(tab, "point")
    assert moved[0] > 0.3 and moved[1] > 0.2 and np.abs(pixels(tab) - before).max() > 20
    assert tab.evaluate("explorer.state.picked") == first, "a drag picks nothing"
    tab.touchscreen.tap(*on_map(tab, [-1.0, -0.5]))
    frames(tab)
    assert tab.evaluate("explorer.state.picked") != first
    picture = tab.locator("#picture").bounding_box()
    assert 0 <= picture["y"] < 740, "the decoded image stays in sight"


def test_keyboard_moves_on_the_map_and_picks(tab):
    tab.focus("#map")
    start, image = state(tab, "point"), pixels(tab)
    for _ in range(5):
        tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("ArrowUp")
    half = tab.evaluate("explorer.state.model.half")
    assert np.allclose(
        state(tab, "point") - start, [half * 5 / 8, half / 40], atol=1e-3
    )
    assert np.abs(pixels(tab) - image).max() > 20
    tab.keyboard.press("Enter")
    assert np.linalg.norm(state(tab, "point") - start) > 0.3
    for _ in range(30):
        tab.keyboard.press("Shift+ArrowDown")
    low = tab.evaluate("explorer.state.model.middle[1] - explorer.state.model.half")
    assert np.isclose(state(tab, "point")[1], low, atol=1e-3), "the map's edge"
    tab.wait_for_selector("#status:has-text('far from all garments')")


def test_keyboard_alone_reaches_every_control_and_shows_where_it_is(tab):
    reached = []
    for _ in range(26):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement === document.body"):
            break  # past the last control
        outline = """() => { const node = document.activeElement;
          const shown = node.type === 'radio' ? node.nextElementSibling : node;
          return [node.id || node.name || node.parentElement.innerText.trim(),
                  getComputedStyle(shown).outlineStyle]; }"""
        name, style = tab.evaluate(outline)
        reached.append(name)
        assert style == "solid", name
    assert {
        "model",
        "view",
        "map",
        "plane",
        "density",
        "path",
        "twenty",
        "random",
        "zero",
    } < set(reached)
    assert {"pad", "erase", "empty", "restore", *vh.CLASS_NAMES} < set(reached)


def test_classes_plane_and_density_change_the_map(tab):
    pictures = [drawing(tab)]
    tab.locator("#classes label", has_text="Sneaker").click()
    pictures.append(drawing(tab))
    tab.locator("#classes label", has_text="Sneaker").click()
    assert drawing(tab) == pictures[0]
    tab.locator("#density").check()
    pictures.append(drawing(tab))
    assert "gaps" in tab.inner_text("#density-note")
    tab.locator("#density").uncheck()
    assert tab.locator("#density-note").is_hidden()
    tab.locator("#plane").check()
    wait(tab, "explorer.state.model.decoded === 400")
    pictures.append(drawing(tab))
    assert len(set(pictures)) == 4
    tile = tab.evaluate("""() => [...explorer.state.model.tiles.getContext('2d')
      .getImageData(28 * 12, 28 * 5, 28, 28).data]""")
    half, middle = tab.evaluate(
        "[explorer.state.model.half, explorer.state.model.middle]"
    )
    place = np.array([[middle[0] + half * 0.25, middle[1] + half * 0.45]])
    expected = tab.evaluate(
        "z => [...explorer.decode(explorer.state.model, z)]", place[0].tolist()
    )
    shown = np.array(tile).reshape(-1, 4)[:, 0]
    assert np.abs(shown - 255 * np.clip(expected, 0, 1)).max() <= 1


def test_twenty_draws_of_the_autoencoder_lie_in_gaps(tab, page):
    notes = {}
    for model in explorer.read(page)["models"][1:]:
        choose(tab, model["name"])
        assert tab.locator("#draws").is_hidden(), "draws of another model stay"
        before = drawing(tab)
        tab.click("#twenty")
        assert drawing(tab) != before
        draws = np.array(tab.evaluate("explorer.state.draws.map(z => [...z])"))
        assert draws.shape == (20, model["dimensions"]) and abs(draws.mean()) < 0.5
        notes[model["unit"]] = tab.inner_text("#draws-note")
        last = tab.evaluate("""() => [...document.getElementById('strip').getContext('2d')
          .getImageData(271, 31, 28, 28).data]""")
        expected = 255 * explorer.decode(model, draws[19:])[0]
        assert np.abs(np.array(last).reshape(-1, 4)[:, 0] - expected).max() <= 2
    counts = {unit: int(re.search(r"(\d+) of 20", n)[1]) for unit, n in notes.items()}
    assert counts["sd"] >= 15 and counts["nats"] <= 5
    assert "smears" in notes["sd"] and "no negative numbers" in notes["sd"]
    assert "smears" not in notes["nats"]


def test_path_plays_as_a_film_and_is_saved_as_a_picture(tab, page, tmp_path):
    model = explorer.read(page)["models"][0]
    tab.locator("#path").check()
    points = np.array([[-1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    tab.mouse.move(*on_map(tab, points[0]))
    tab.mouse.down()
    for point in points[1:]:
        tab.mouse.move(*on_map(tab, point), steps=10)
    tab.mouse.up()
    drawn = np.array(tab.evaluate("explorer.state.path"))
    assert len(drawn) == 21
    assert np.allclose(drawn[[0, 10, 20]], points, atol=0.03)
    wait(tab, "explorer.state.point[1] > 0.99")  # the film's end
    picked = tab.evaluate("explorer.state.picked")
    with tab.expect_download() as download:
        tab.click("#save")
    download.value.save_as(tmp_path / "path.png")
    saved = np.asarray(Image.open(tmp_path / "path.png").convert("L"))
    assert saved.shape == (240, 720)
    for k in (0, 4, 11):  # equal steps along the path, whose length is 3
        t = 3 * k / 11
        at = np.array([[min(t - 1, 1), max(t - 2, 0)]])
        left, top = 120 * (k % 6) + 4, 120 * (k // 6) + 4
        shown = saved[top : top + 112 : 4, left : left + 112 : 4].ravel()
        expected = 255 * explorer.decode(model, at)[0].clip(0, 1)
        assert np.abs(shown - expected).max() < 12 and np.ptp(shown) > 50
    tab.locator("#path").uncheck()
    assert tab.locator("#film").is_hidden()
    assert picked == tab.evaluate("explorer.state.picked"), "a path picks nothing"


def test_path_by_keyboard_does_not_move_by_itself_for_readers_who_want_no_motion(
    open_tab, page
):
    tab = ready(open_tab(page.as_uri(), viewport=DESKTOP, reduced_motion="reduce"))
    tab.locator("#path").check()
    tab.focus("#map")
    for key in ["Shift+ArrowRight"] * 3 + ["Enter"]:
        tab.keyboard.press(key)
    assert tab.locator("#film").is_visible() and len(state(tab, "path")) == 4
    before = state(tab, "point")
    time.sleep(0.3)
    assert np.array_equal(state(tab, "point"), before)
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#film").is_hidden() and len(state(tab, "path")) == 2


def test_what_is_drawn_is_encoded(tab):
    choose(tab, "VAE, 10")
    tab.click("#empty")
    black = tab.locator("#nats tr").last.inner_text()
    assert not state(tab, "image").any() and tab.inner_text("#picked") == "drawn here"
    box = tab.locator("#pad").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(
        box["x"] + box["width"] * 3 / 4, box["y"] + box["height"] / 2, steps=20
    )
    tab.mouse.up()
    image = state(tab, "image").reshape(28, 28)
    assert np.all(image[14, 7:21] == 1) and not image[:12].any()
    assert tab.locator("#nats tr").last.inner_text() != black
    assert "% of the garments" in tab.inner_text("#score-note")
    tab.locator("#erase").check()
    tab.focus("#pad")
    for key in ("ArrowUp", "ArrowDown", " "):
        tab.keyboard.press(key)
    assert (state(tab, "image").reshape(28, 28)[14] == 1).sum() < 14
    tab.locator("#erase").uncheck()
    tab.focus("#pad")
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", " "):
        tab.keyboard.press(key)
    assert state(tab, "image").reshape(28, 28)[11].max() == 1
    tab.click("#restore")
    assert state(tab, "image").max() > 0 and tab.inner_text("#picked").endswith(
        "from the map"
    )


def test_mouse_drags_a_slider(tab, page):
    look_at_sliders(tab)
    tab.click("#zero")
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
    tab = ready(open_tab(page.as_uri(), **PHONE))
    look_at_sliders(tab)
    tab.locator("#zero").tap()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    before, slider = pixels(tab), tab.locator(f"#z{most_used(page)}")
    box = slider.bounding_box()
    assert box["height"] >= 44 and tab.locator("#random").bounding_box()["height"] >= 44
    slider.tap(position={"x": box["width"] * 0.9, "y": box["height"] / 2})
    assert values(tab)[most_used(page)] > 1.5
    assert np.abs(pixels(tab) - before).max() > 50


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


def test_random_garment_and_walk_between_two(tab, page):
    look_at_sliders(tab)
    tab.focus("#random")
    tab.keyboard.press("Enter")
    first = values(tab)
    tab.keyboard.press("Enter")
    assert np.sum(first != values(tab)) > 7 and np.all(np.abs(values(tab)) < 6)
    read = explorer.read(page)
    model = read["models"][1]
    a, b = (model["codes"][read["examples"][i]] * model["scale"] for i in (2, 16))
    tab.select_option("#from", label="Trouser 1")
    tab.select_option("#to", label="Bag 1")
    assert np.allclose(values(tab), a, atol=0.006)
    tab.focus("#way")
    for _ in range(25):
        tab.keyboard.press("ArrowRight")
    assert np.allclose(values(tab), a + 0.25 * (b - a), atol=0.006)
    tab.keyboard.press("End")
    assert np.abs(pixels(tab) - 255 * explorer.decode(model, b[None])[0]).max() <= 2


def test_controls_have_names_and_inactive_dimensions_are_marked_in_words(tab, page):
    look_at_sliders(tab)
    for control in tab.query_selector_all("input, select"):
        assert control.evaluate("node => node.labels[0].textContent.trim()")
    read = explorer.read(page)
    for i, kl in enumerate(read["models"][1]["use"]):
        mark = "inactive" if kl <= read["threshold"] else f"{kl:.2f} nats"
        assert tab.inner_text(f"#use{i}") == mark
        assert tab.get_attribute(f"#z{i}", "aria-describedby") == f"use{i}"
    for model in read["models"]:
        choose(tab, model["name"])
        stated = tab.inner_text("#exact")
        assert f"{model['differences']['pixels']:.3f} in a pixel" in stated
        assert f"{model['differences']['nats']:.2f} nats" in stated


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_explorer(open_tab, page, scheme):
    tab = ready(open_tab(page.as_uri(), color_scheme=scheme))
    tab.locator("#density").check()
    tab.click("#twenty")
    found = faults(tab)
    look_at_sliders(tab)
    assert found + faults(tab) == []


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
    ready(frame)
    before = pixels(frame)
    frame.locator("#map").focus()
    for _ in range(3):
        tab.keyboard.press("Shift+ArrowRight")
    assert np.abs(pixels(frame) - before).max() > 20
    with tab.context.expect_page() as opened:  # the way out of the frame
        frame.locator("#alone").click()
    alone = ready(opened.value)
    assert np.array_equal(pixels(alone), before) and alone.locator("#alone").is_hidden()


# ---------------------------------------------------------------- the rendered pages


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the pages of the stored notebooks, with the reference models' map."""
    if not pages.installed():
        pytest.skip(pages.MISSING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "BUILD", tmp_path_factory.mktemp("build"))
        maps = tmp_path_factory.mktemp("maps")
        pages.reference_map(maps / "explorer.html")
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
    element = tab.wait_for_selector("iframe")
    element.scroll_into_view_if_needed()
    frame = element.content_frame()
    frame.wait_for_selector("#status:not(:empty)", timeout=20_000)
    for name in ("Autoencoder", "VAE, 10"):
        choose(frame, name)
        assert frame.evaluate("explorer.state.model.name").startswith(name)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


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


def test_search_works_without_a_server(folder, open_tab):
    tab = open_tab(f"{(folder / 'search.html').as_uri()}?q=posterior+collapse")
    tab.wait_for_selector("#search-results li a")
    addresses = [
        link.get_attribute("href")
        for link in tab.query_selector_all("#search-results a")
    ]
    assert any("05_how_good" in address for address in addresses)


def test_no_code_of_chapters_is_cut_off_at_1400_pixels(folder, open_tab):
    """A line that is too long gives its cell a horizontal scroll bar."""
    measure = """() => [...document.querySelectorAll('div.cell_input pre')].map(cell =>
      [cell.scrollWidth - cell.clientWidth, cell.textContent.slice(0, 100)])"""
    paths = sorted((folder / "notebooks").glob("*.html"))
    for path in [path for path in paths if "explorer" not in path.name]:
        tab = open_tab(path.as_uri(), viewport={"width": 1400, "height": 900})
        cells = tab.evaluate(measure)
        tab.close()
        assert len(cells) >= 5, path.name
        assert [text for too_wide, text in cells if too_wide > 0] == [], path.name
