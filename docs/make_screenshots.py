"""Take the pictures of docs/report.md from the page of a campaign: ``python docs/make_screenshots.py campaign.html``.

Needs selenium and Chromium, as the tests do. The pictures in the repository show a campaign of
``examples/submit_campaign.py`` with all three targets of ``examples/targets``, and TOP_K of 4.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

IMAGES = Path(__file__).parent / "images"
SWITCHES = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-unsafe-swiftshader", "--hide-scrollbars")
PICTURES = {"report-light.png": (1400, "light", 0, 1900), "report-dark-phone.png": (400, "dark", 0, 2600)}
"""Width of the window, colour scheme, and from where to where of the page, in pixels."""


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page.resolve()
    options = Options()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for switch in (*SWITCHES, f"--user-data-dir={folder}"):
            options.add_argument(switch)
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            for name, (width, scheme, top, bottom) in PICTURES.items():
                (IMAGES / name).write_bytes(picture(driver, page, width, scheme, top, bottom))
        finally:
            driver.quit()


def picture(driver: webdriver.Chrome, page: Path, width: int, scheme: str, top: int, bottom: int) -> bytes:
    """Return a part of the page as PNG, the structure drawn."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get("about:blank")
    driver.get(page.as_uri())
    while not driver.execute_script("return document.documentElement.dataset.ready"):
        time.sleep(0.05)
    driver.execute_script("document.getElementById('structure').scrollIntoView({behavior: 'instant'})")
    while not driver.execute_script("return document.getElementById('elements').childElementCount"):
        time.sleep(0.05)
    driver.execute_script("scrollTo({top: 0, behavior: 'instant'})")
    clip = {"x": 0, "y": top, "width": width, "height": bottom - top, "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return base64.b64decode(taken["data"])


if __name__ == "__main__":
    main()
