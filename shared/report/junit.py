"""A climb as JUnit XML, which continuous integration shows: one case for each rung."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from transfer_parity.shared.core.text import printable
from transfer_parity.shared.report import subject
from transfer_parity.shared.subjects.document import SubjectParity

#: What XML 1.0 cannot hold, not even as a reference (https://www.w3.org/TR/xml/#charsets).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml(document: SubjectParity) -> str:
    """The report. A rung above the one that failed fails, too, where it differs, but without a cause of its own."""
    failed = document.first_failure
    cases = []
    for rung in document.rungs:
        case = ElementTree.Element("testcase", classname=_text(f"parity.{document.name}"), name=rung.name, time="0")
        word = subject.verdict(rung)
        if word == "FAILED":
            told = subject.lines(document)[1:] if rung is failed else []
            first = rung.first_divergence
            message = f"{first.what}: {subject.numbers(first)}" if first else "failed"
            element = ElementTree.SubElement(case, "failure", type="divergence", message=_text(message))
            element.text = _text("\n".join(told) or message)
        elif not rung.passed:
            ElementTree.SubElement(case, "skipped", message=_text(word))
        cases.append(case)
    if document.refused is not None:
        case = ElementTree.Element("testcase", classname=_text(f"parity.{document.name}"), name="climb", time="0")
        ElementTree.SubElement(case, "error", type="refused", message=_text(document.refused))
        cases.append(case)
    counts = {word: str(sum(case.find(word) is not None for case in cases)) for word in ("failure", "error", "skipped")}
    suite = ElementTree.Element(
        "testsuite",
        name=_text(f"parity {document.name}"),
        tests=str(len(cases)),
        failures=counts["failure"],
        errors=counts["error"],
        skipped=counts["skipped"],
        timestamp=_text(document.created),
    )
    suite.extend(cases)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _text(value: str) -> str:
    """Text that XML can hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", printable(value, lines=True))
