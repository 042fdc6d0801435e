"""Self-contained HTML pages: documents, tables and charts, and the same charts as image files."""

from bluedit.page.charts import Axis, Bars, Chart, Dots, Line, Series
from bluedit.page.document import document, write_document
from bluedit.page.heat_map import HeatMap
from bluedit.page.markup import signed, table, text_cell

__all__ = [
    "Axis",
    "Bars",
    "Chart",
    "Dots",
    "HeatMap",
    "Line",
    "Series",
    "document",
    "signed",
    "table",
    "text_cell",
    "write_document",
]
