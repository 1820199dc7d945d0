"""The paper's figures, of one's own net: Matplotlib figures to show, change and save."""

from pyalexnet.system.extras import importing_extra

with importing_extra():
    import matplotlib  # noqa: F401 - asked for here, before any file of this folder imports a part of it

from pyalexnet.study.figures.curves import learning_curves
from pyalexnet.study.figures.filters import ColourIndex, colour_index, filter_pictures
from pyalexnet.study.figures.neighbours import neighbour_rows
from pyalexnet.study.figures.occlusion import occlusion_panel
from pyalexnet.study.figures.predictions import prediction_panel
from pyalexnet.study.figures.projections import projection_panel
from pyalexnet.study.figures.save import FORMATS, encoded, require_format, save_figure
from pyalexnet.study.figures.similarity import similarity_panel
from pyalexnet.study.figures.units import unit_rows

__all__ = [
    "FORMATS",
    "ColourIndex",
    "colour_index",
    "encoded",
    "filter_pictures",
    "learning_curves",
    "neighbour_rows",
    "occlusion_panel",
    "prediction_panel",
    "projection_panel",
    "require_format",
    "save_figure",
    "similarity_panel",
    "unit_rows",
]
