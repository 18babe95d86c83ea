"""The page, in a real browser: with the keyboard, on a phone, in the dark, and with no request to anywhere else."""

import contextlib
from urllib.parse import urlsplit

import pytest
from sites import until

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser():
    import os

    playwright = pytest.importorskip("playwright.sync_api")
    if not os.path.exists(CHROMIUM):
        pytest.skip(f"there is no {CHROMIUM}")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@contextlib.contextmanager
def opened(browser, address, width=1400, **options):
    """The page, which must complain of nothing and ask nobody else."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    page = context.new_page()
    page.set_default_timeout(120_000)
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda problem: complaints.append(str(problem)))
    page.goto(address)
    page.wait_for_selector("#card h3")
    yield page
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith(("blob:", "data:"))}
    assert hosts == {urlsplit(address).netloc} and complaints == []
    context.close()


def is_drawn(page, selector):
    """Whether all pictures there are, and have been decoded."""
    return page.evaluate(
        "s => { const all = [...document.querySelectorAll(s)]; return all.length && all.every(i => i.complete && i.naturalWidth > 0) }",
        selector,
    )


def test_a_number_becomes_a_picture_to_download_by_keyboard_alone(browser, serve, registry, point):
    point("challenger", 2)
    site = serve("models:/m@champion", registry)
    with opened(browser, site.address) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Tab")
        page.keyboard.type("1234567890123456789")
        page.keyboard.press("Enter")
        page.wait_for_selector("#download:not([hidden])")
        assert is_drawn(page, "#picture img") and is_drawn(page, "#strip img")
        while page.evaluate("document.activeElement.id") != "download":
            page.keyboard.press("Tab")
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        assert download.value.suggested_filename == "1234567890123456789.png"
        with open(download.value.path(), "rb") as file:
            assert file.read() == site.ask("/v1/images/1234567890123456789.png?alias=champion").body

        page.fill("#draw [name=seed]", "seven")
        page.press("#draw [name=seed]", "Enter")
        page.wait_for_selector("#draw-says.wrong")
        assert "digits" in page.text_content("#draw-says")


def test_grid_walk_and_champion_beside_challenger(browser, serve, registry, point):
    point("challenger", 2)
    site = serve("models:/m@champion", registry)
    with opened(browser, site.address) as page:
        page.fill("#grid [name=n]", "6")
        page.click("#grid button")
        page.wait_for_selector("#sheet li:nth-child(6)")
        page.fill("#walk [name=n]", "4")
        page.click("#walk button")
        page.wait_for_selector("#way li:nth-child(4)")
        assert page.locator("#way span").all_text_contents() == ["3", "33%", "67%", "9"]
        page.click("#compare button")
        page.wait_for_selector("#both div:nth-child(2) li:nth-child(8)")
        until(lambda: is_drawn(page, ".sheet img"))
        assert page.locator("#both h3").all_text_contents() == ["champion: models:/m/1", "challenger: models:/m/2"]
        said = page.locator("#both .figures").all_text_contents()
        assert "fid_classifier 3.000 ± 0.20" in said[0] and "fid_classifier 2.000" in said[1]
        odd = {"metric": "fid", "fid": None, "fid_std": None, "kid": 0.2, "kid_std": 0.01, "n": 64}
        told = "fid unknown ± ?, KID 0.2000 ± 0.020 (95%), of 64 pictures"
        assert page.evaluate("found => figures({ figures: found })", odd) == told
        assert page.locator("#card table").count() == 1
        page.click("#sheet li:nth-child(2) button")
        page.wait_for_selector("#download[download='1.png']:not([hidden])")


def test_classes_and_guidance_where_there_are_some(browser, serve, labelled):
    site = serve(labelled)
    with opened(browser, site.address) as page:
        assert page.is_visible("#drawing [name=label]") and page.is_hidden("#beside")
        assert page.input_value("#drawing [name=guidance]") == "1"
        page.select_option("#drawing [name=label]", "7")
        page.fill("#drawing [name=guidance]", "2")
        page.fill("#drawing [name=steps]", "3")
        page.fill("#draw [name=seed]", "5")
        page.click("#draw button")
        page.wait_for_selector("#download:not([hidden])")
        with page.expect_download() as download:
            page.click("#download")
        with open(download.value.path(), "rb") as file:
            assert file.read() == site.ask("/v1/images/5.png?label=7&guidance=2&steps=3").body


def test_guidance_where_there_is_a_guide_begins_with_the_version_s_own(browser, serve, registry, point, guided):
    point("champion", guided)
    point("challenger", 1)
    site = serve("models:/m@champion", registry)
    with opened(browser, site.address) as page:
        assert page.is_visible("#drawing [name=guidance]") and page.is_hidden("#drawing [name=label]")
        assert page.input_value("#drawing [name=guidance]") == "2"
        pictures = {}
        for asked, given in (("", "2"), ("&guidance=1.25", "1.25")):
            page.fill("#drawing [name=guidance]", given)
            page.fill("#draw [name=seed]", "5")
            page.click("#draw button")
            until(lambda: page.text_content("#draw-says").startswith("Drawn"))
            with page.expect_download() as download:
                page.click("#download")
            with open(download.value.path(), "rb") as file:
                pictures[given] = file.read()
            assert pictures[given] == site.ask(f"/v1/images/5.png?alias=champion{asked}").body
        assert pictures["2"] != pictures["1.25"]
        page.select_option("#drawing [name=alias]", "challenger")
        assert page.is_hidden("#drawing [name=guidance]"), "a version with neither classes nor a guide has none"


def test_on_a_phone_and_in_the_dark(browser, site):
    grounds = []
    for scheme in ("light", "dark"):
        with opened(browser, site.address, width=390, color_scheme=scheme) as page:
            page.fill("#draw [name=seed]", "5")
            page.fill("#drawing [name=steps]", "2")
            page.click("#draw button")
            page.wait_for_selector("#download:not([hidden])")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.is_hidden("#drawing [name=label]")
            grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(set(grounds)) == 2


def test_who_has_a_token_says_it_once(browser, serve, checkpoint, tmp_path):
    import hashlib

    (tmp_path / "tokens").write_text(f"ann sha256:{hashlib.sha256(b'secret').hexdigest()}")
    site = serve(checkpoint, tokens_file=str(tmp_path / "tokens"))
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(site.address)
    page.wait_for_selector("#of-token:not([hidden])")
    page.fill("#drawing [name=token]", "secret")
    page.press("#drawing [name=token]", "Tab")
    page.wait_for_selector("#card h3")
    page.close()
