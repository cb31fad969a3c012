"""Do all links between the pages of the built site lead somewhere?

Sphinx checks references, not the HTML that these, pictures and downloads end in.
A link with a fragment must lead to an anchor. Scripts, styles and pictures must be
files of the site, so that it can be read without a network. What an estimator shows in
a notebook must link to a page of the site.

Run: python docs/check_links.py docs/_build
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDAutoRegressor,
    DeepTDClassifier,
    DeepTDClassifierCV,
    DeepTDFeatures,
    DeepTDRegressor,
    DeepTDRegressorCV,
    DeepTDRidge,
)
from skdeeptd._validation import DOCUMENTATION
from skdeeptd.dask import DaskDeepTDClassifier, DaskDeepTDRegressor

ESTIMATORS = [
    DeepTDAutoRegressor(),
    DeepTDAutoClassifier(),
    DeepTDRegressor(),
    DeepTDRegressorCV(),
    DeepTDRidge(),
    DeepTDFeatures(),
    DeepTDClassifier(),
    DeepTDClassifierCV(),
    DaskDeepTDRegressor(),
    DaskDeepTDClassifier(),
]


class Page(HTMLParser):
    """What a page links to, what it loads, and its anchors."""

    def __init__(self, html):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if "id" in attributes:
            self.anchors.add(attributes["id"])
        if "href" in attributes:
            (self.links if tag == "a" else self.loads).append(attributes["href"])
        if "src" in attributes:
            self.loads.append(attributes["src"])
        if "srcset" in attributes:
            self.loads += [part.split()[0] for part in attributes["srcset"].split(",")]


def read_pages(site):
    return {
        path: Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if path.relative_to(site).parts[0] != "_static"  # templates of the theme
    }


def problems(pages, site):
    for path, page in pages.items():
        name = path.relative_to(site)
        for url in page.loads:
            if urlsplit(url).netloc:
                yield f"{name} loads {url}"
        for url in page.links + page.loads:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve()
            target = target if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file():
                yield f"{name}: no file for {url}"
            elif anchor and target in pages and anchor not in pages[target].anchors:
                yield f"{name}: no anchor for {url}"


def problems_of_notebooks(site):
    for estimator in ESTIMATORS:
        links = Page(estimator._repr_html_()).links
        pages = [u.removeprefix(DOCUMENTATION + "/") for u in links]
        if not any((site / page.split("#")[0]).is_file() for page in pages):
            yield f"{type(estimator).__name__} in a notebook: no page for {links}"


def main():
    site = Path(sys.argv[1]).resolve()
    pages = read_pages(site)
    found = list(problems(pages, site)) if pages else [f"no page in {site}"]
    found += problems_of_notebooks(site)
    print("\n".join(found) or f"all links between {len(pages)} pages are alive")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
