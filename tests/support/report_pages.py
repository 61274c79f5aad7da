"""Pages of a report, read strictly."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "input", "br", "link", "hr"}
LARGEST_PAGE_BYTES = 5_000_000


class Page(HTMLParser):
    """Reads a page strictly: every tag is closed in order, every id is used once, all links are kept."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.images: list[dict] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        assert len(found) == len(attrs), (tag, attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.sources += [found[key] for key in ("src", "srcset", "data", "poster") if key in found]
        self.links += [found["href"]] if "href" in found else []
        self.images += [found] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def check(path) -> Page:
    """Read a page and hold it to what every page must be."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert len(text) < LARGEST_PAGE_BYTES
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert all(source.startswith("data:") for source in page.sources)
    assert not re.search(r"url\((?!#|data:)|@import|https?://", text)
    assert all("alt" in image for image in page.images)
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids)
    return page
