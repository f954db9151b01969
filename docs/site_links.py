"""A hook of mkdocs: links that lead out of `docs/` into the source tree become the paths of what they name.

On a code host both kinds of link work; a site has only the pages.
"""

import re
from pathlib import PurePosixPath
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)([^)#]+)(#[^)]*)?\)")
_FOLDER = re.compile(r"\[([^\]]+)\]\((decisions|images)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    depth = len(PurePosixPath(page.file.src_uri).parent.parts)

    def rewritten(link: "re.Match[str]") -> str:
        text, up, path, _anchor = link.groups()
        if len(up) // 3 <= depth:
            return link.group(0)
        return text if path in text else f"{text} (`{path}`)"

    return _FOLDER.sub(r"\1 (`docs/\2`)", _LINK.sub(rewritten, markdown))
