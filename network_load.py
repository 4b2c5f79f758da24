"""TEMPORARY stand-in for network.load."""
from torch import nn

from datasets import get_dataset_class
from network import ARCHS
from network.folding import Folded
from utils import checkpoint
from utils.classes import CITYSCAPES, ClassTable
from utils.errors import UserError
from utils.settings import recorded


def classes_of(name):
    return getattr(get_dataset_class(name), "classes", None if name in ("folder", "null") else CITYSCAPES)


class Segmenter(nn.Module):
    def __init__(self, net, classes, image_in, settings, report):
        super().__init__()
        self.net, self.classes, self.image_in, self.settings, self.report = net, classes, image_in, settings, report

    def forward(self, image):
        return self.net(image)


def load(snapshot, *, arch=None, wt_layer=None, classes=None, precision="float32", device="cpu"):
    state = checkpoint.load(snapshot)
    settings = recorded(state)
    if "classes" in settings:
        settings["classes"] = ClassTable.from_dict(settings["classes"])
    given = {"arch": arch and arch.removeprefix("network.deepv3."), "wt_layer": wt_layer, "classes": classes}
    for name, value in given.items():
        if value is not None and settings.get(name, value) != value:
            raise UserError(f"{snapshot} was trained with {name} {settings[name]}, not {value}")
        if value is not None:
            settings[name] = value
    if "arch" not in settings:
        raise UserError(f"{snapshot} does not record its network: name it with --arch")
    classes = settings.get("classes", CITYSCAPES)
    net = ARCHS[settings["arch"]](wt_layer=tuple(settings.get("wt_layer", [0] * 7)), pretrained=None, **({"num_classes": len(classes)} if len(classes) != 19 else {}))
    report = checkpoint.load_weights(net, state["state_dict"])
    return Segmenter(Folded(net.to(device), precision), classes, settings.get("image_in", False), settings, report)
