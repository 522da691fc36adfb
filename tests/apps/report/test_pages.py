"""Pages from templates: all text escaped, tables that sort, nothing printed by accident."""

import re
from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from retina_plugin.apps.report import pages
from retina_plugin.apps.report.pages import Table, count, markdown_text, number, visible

MARK = "\N{REPLACEMENT CHARACTER}"
HOSTILE = '"><img src=x onerror=alert(1)>\x00\x1b[31m\u202e\n'


def fill(template: str, *, is_html: bool = True, **content) -> str:
    """Fill the text of a template in the environment of the pages."""
    source = template if "import" in template or not is_html else IMPORTS + template
    return pages._environment(is_html=is_html).from_string(source).render(content)


IMPORTS = '{% from "report/parts.html.j2" import code, details, facts, figures, part, pictures, table with context %}'


@pytest.mark.parametrize(
    "template",
    [
        "<p>{{ text }}</p>",
        '<p title="{{ text }}">',
        "{{ facts([(text, text)]) }}",
        "{{ code([text]) }}",
        "{% call details(text) %}{{ text }}{% endcall %}",
        "{{ pictures([(text, [(text, text)])]) }}",
        "{% call part(text, {text: text}) %}{% endcall %}",
        "{{ table(Table(text, [text, text], [[text, text]], row_classes=[text], cell_classes={text: text})) }}",
        "{{ table(Table(text, [text, text], [[text, text]], sortable=true)) }}",
    ],
)
def test_hostile_text_is_text_in_every_part(template):
    html = fill(template, text=HOSTILE, Table=Table)
    assert html.count("<img ") == template.count("pictures") and "onerror=alert(1)&gt;" in html
    assert '"><img' not in html and not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", html)
    assert f"&gt;{MARK}{MARK}[31m{MARK}{MARK}" in html


def test_markup_is_printed_as_it_stands_and_a_missing_name_is_an_error():
    assert fill("{{ text }}", text=Markup("<b>")) == "<b>"
    assert fill("{{ text }}", text=None) == "–"
    with pytest.raises(jinja2.UndefinedError, match="'text' is undefined"):
        fill("{{ text }}")


def test_markdown_has_no_marks_from_outside():
    text = fill("{{ text }}\n{{ none }}", is_html=False, text="a|b <img>\n# c\x1b `d`", none=None)
    assert text == f"a\\|b &lt;img&gt; # c{MARK} \\`d\\`\n–"
    assert markdown_text("Größe [x]") == r"Größe \[x\]"


def test_visible():
    assert visible("x\x07y\u2066z\nw") == f"x{MARK}y{MARK}z{MARK}w"
    assert visible("Größe 猫\N{NO-BREAK SPACE}") == "Größe 猫\N{NO-BREAK SPACE}"
    assert visible(7) == 7


def test_table_sorts_by_value_and_knows_columns_of_words():
    sorts = Table("T", ["Name", "N", "Word"], [["a", 0.123456, "b"], ["c", None, "d"]], text=(0, 2), sortable=True)
    html = fill("{{ table(content) }}", content=sorts)
    assert 'data-kind="text"><button type="button">Name' in html
    assert 'data-kind="number"><button type="button">N' in html
    assert 'data-kind="text"><button type="button">Word' in html
    assert '<td data-value="0.123456">0.1</td>' in html and '<td data-value="" class="quiet">–</td>' in html
    assert '<td data-value="d" class="text">d</td>' in html
    plain = fill("{{ table(content) }}", content=Table("T", ["Name", "N"], [["a", 2]]))
    assert "button" not in plain and "data-value" not in plain and "<td>2</td>" in plain


def test_table_rounds_by_column_and_marks_cells():
    table = Table("T", "abcd", [["x", 0.25, 1.0, "within"]], digits=(2,), cell_classes={"within": "good"})
    assert list(table.cells(table.rows[0])) == [("0.25", "0.25", ""), ("1.0", "1", ""), ("within", "within", "good")]


def test_numbers_and_counts():
    assert [number(value, 2) for value in (1.005, 3, "text", None)] == ["1.00", "3", "text", "–"]
    assert [count(n, noun) for n, noun in ((0, "box"), (1, "class"), (2, "class"), (2, "image"))] == [
        "0 boxes", "1 class", "2 classes", "2 images"
    ]  # fmt: skip


def test_no_template_of_html_turns_escaping_off():
    apps = Path(pages.__file__).parents[1]
    templates = list(apps.rglob("*.html.j2"))
    assert len(templates) >= 6
    for path in templates:
        assert not re.search(r"\bsafe\b|autoescape|Markup", path.read_text()), path
    makers = {path.name for path in apps.rglob("*.py") if "Markup(" in path.read_text()}
    assert makers == {"plots.py"}  # the SVG of a plot, whose texts matplotlib escapes


def test_templates_are_installed_with_the_package():
    """Each file beside the modules that is no module has a pattern in setup.py."""
    apps = Path(pages.__file__).parents[1]
    setup = (apps.parents[1] / "setup.py").read_text()
    suffixes = {path.suffix for path in apps.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {".j2", ".css", ".js", ".csv"} <= suffixes
    assert all(f'"*/*{suffix}"' in setup for suffix in suffixes)
