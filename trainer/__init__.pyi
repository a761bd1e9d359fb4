# What the API's names are, for type checkers; the module itself imports them when they are asked for.
from trainer.attacks import craft_trigger as craft_trigger
from trainer.attacks import load_trigger as load_trigger
from trainer.attacks.trigger import Trigger as Trigger
from trainer.audit.auditing import Audit as Audit
from trainer.audit.auditing import audit_model as audit_model
from trainer.audit.search import SearchOptions as SearchOptions
from trainer.batches import BatchOptions as BatchOptions
from trainer.conversion import convert as convert
from trainer.conversion import model_card as model_card
from trainer.defences import choose_options as choose_options
from trainer.embedding import embed_classes as embed_classes
from trainer.evals import Evaluation as Evaluation
from trainer.evals import LabelledImages as LabelledImages
from trainer.evals import evaluate_zero_shot as evaluate_zero_shot
from trainer.evals import load_labelled as load_labelled
from trainer.launch import Source as Source
from trainer.launch import attack as attack
from trainer.launch import defend as defend
from trainer.model import ClipModel as ClipModel
from trainer.model import ModelChoice as ModelChoice
from trainer.model import load_model as load_model
from trainer.optim import OptimOptions as OptimOptions
from trainer.train import TrainOptions as TrainOptions

__version__: str
__all__: list[str]
