# What the API's names are, for type checkers; the module itself imports them when they are asked for.
from pipeline.captions.readers import InputOptions as InputOptions
from pipeline.captions.readers import open_source as open_source
from pipeline.demo.data import DemoOptions as DemoOptions
from pipeline.demo.data import write_demo_data as write_demo_data
from pipeline.errors import UserError as UserError
from pipeline.lexicons.loading import load_lexicons as load_lexicons
from pipeline.looking.preview import write_preview as write_preview
from pipeline.looking.query import connect as connect
from pipeline.looking.query import saved_queries as saved_queries
from pipeline.looking.verify import verify as verify
from pipeline.scene_graphs.parser import CaptionParser as CaptionParser
from pipeline.schema import Caption as Caption
from pipeline.schema import SceneGraph as SceneGraph
from pipeline.schema import Subcaption as Subcaption
from pipeline.stages import PipelineOptions as PipelineOptions
from pipeline.stages import run_stages as run_stages
from pipeline.subcaptions.making import SubcaptionOptions as SubcaptionOptions
from pipeline.subcaptions.making import make_subcaption as make_subcaption

__version__: str
__all__: list[str]
