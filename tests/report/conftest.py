"""Campaigns, and a real browser that looks at their pages."""

import json
import tempfile
import time

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.synthetic import make_campaign, shared_nodes, synthetic

__all__ = ["make_campaign", "shared_nodes", "synthetic"]

SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage", "--hide-scrollbars"),
)


class Page:
    """A page in Chromium, at a width and in a colour scheme of choice."""

    def __init__(self, driver, downloads):
        self.driver, self.downloads = driver, downloads

    def open(self, path, width=1400, scheme="light", fragment=""):
        """Open a page, and wait until its scripts have drawn."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.driver.get("about:blank")  # a change of the fragment alone would not load it again
        self.driver.get(f"{path.as_uri()}{fragment}")
        self.wait(lambda: self.run("return document.documentElement.dataset.ready"))
        return self

    def run(self, script, *arguments):
        """Run a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition, seconds=600):
        """Wait for something, and return it."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not so after {seconds} s"
            time.sleep(0.05)
        return found

    def find(self, selector):
        """Return the first element of a selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        """Return all elements of a selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector):
        """Click on an element, wherever the page is scrolled."""
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def column(self, heading):
        """Return the values of a column of the table, top down, in the rows that are shown."""
        titles = [cell.text.split("\n")[0].strip(" ↑↓↕") for cell in self.all("#table thead th")]
        return self.run(
            "return [...document.querySelectorAll('#table tbody tr:not([hidden])')]"
            ".map((row) => row.cells[arguments[0]].textContent)",
            titles.index(heading),
        )

    def downloaded(self, suffix):
        """Wait for a file to be downloaded, and return its path."""
        return self.wait(lambda: next(iter(self.downloads.glob(f"*{suffix}")), None))

    def requests(self):
        """Return the addresses that were asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        kinds = ("Network.requestWillBeSent", "Network.webSocketCreated")
        found = [message["params"] for message in messages if message["method"] in kinds]
        return [params["request"]["url"] if "request" in params else params["url"] for params in found]


@pytest.fixture(scope="session")
def driver():
    """Chromium without a window, that logs each request and each error."""
    options = Options()
    with tempfile.TemporaryDirectory() as folder:
        for switch in (*SWITCHES, f"--user-data-dir={folder}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture
def page(driver, tmp_path):
    """A page, of which the test ends well only if nothing was written to the console as an error and no network was asked."""
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    page = Page(driver, downloads)
    for log in ("browser", "performance"):
        driver.get_log(log)
    yield page
    errors = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors
    schemes = {url.split(":")[0] for url in page.requests()}
    assert schemes <= {"file", "data", "blob", "about"}, schemes
