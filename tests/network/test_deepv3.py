import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import network.deepv3
from loss import aux_cross_entropy, cross_entropy
from network import ARCHS, DeepV3Plus, get_net
from network.archs import builder
from network.covariance import covariance
from network.instance_whitening import Whitening
from utils.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"
PUBLISHED = json.loads((GOLDEN / "state_dict.json").read_text())["archs"]
SMALL = "DeepR18V3PlusD"


def published_entries(arch, wt_layer):
    """Return {name: shape} of the published network; other codes are stored as a difference to code 0."""
    plain = PUBLISHED[arch]["0 0 0 0 0 0 0"]
    if wt_layer == "0 0 0 0 0 0 0":
        return plain
    change = PUBLISHED[arch][wt_layer]
    return {k: v for k, v in plain.items() if k not in change["without"]} | change["with"]


@pytest.mark.parametrize(
    ("arch", "wt_layer"), [(arch, codes) for arch in PUBLISHED for codes in PUBLISHED[arch]]
)
def test_state_dict_entries_are_the_published_ones(arch, wt_layer):
    with torch.device("meta"):
        net = ARCHS[arch](wt_layer=tuple(map(int, wt_layer.split())))
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == published_entries(arch, wt_layer)


NAMES = [name for name in ARCHS if "V3Plus" in name]  # DeepLabV3+
QUICK = (SMALL, "DeepMobileNetV3PlusD", "DeepShuffleNetV3PlusD", "DeepMNASNet05V3PlusD")
# Of layer0, layer1, layer2, by the first letters of the backbone.
WHITENED_CHANNELS = {
    "R18": [64, 64, 128],
    "R101": [128, 256, 512],
    "Mobile": [16, 32, 64],
    "Shuffle": [24, 116, 232],
    "MNASNet05": [8, 24, 48],
    "MNASNet10": [16, 40, 96],
    "": [64, 256, 512],  # a 7x7 stem and bottlenecks
}


MIXED = (4, 6, 1, 2, 5, 3, 6)
SETTINGS = [*((0, 0, code, code, code, 0, 0) for code in range(7)), MIXED]


def matrix(settings, quick=QUICK, names=NAMES):
    """Return every arch of `names` x setting; those of archs that are not `quick` are slow."""
    return [
        pytest.param(
            arch,
            codes,
            marks=[] if arch in quick else pytest.mark.slow,
            id=f"{arch}-{''.join(map(str, codes))}",
        )
        for arch in names
        for codes in settings
    ]


def batch(seed=0):
    """Return two small images and their labels, some ignored."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 19, (2, 32, 48), generator=generator)
    label[:, :3] = 255
    return torch.randn(2, 3, 32, 48, generator=generator), label


@pytest.mark.parametrize(("arch", "codes"), matrix(SETTINGS))
def test_two_steps_with_a_finite_loss_and_a_gradient_everywhere(arch, codes):
    torch.manual_seed(0)
    net = ARCHS[arch](wt_layer=codes)
    image, label = batch()
    whitening = Whitening.for_network(net, clusters=3, relax_denom=0)
    if whitening.selective:
        with torch.no_grad():
            whitening.observe(net.eval().whitened_maps(image))
        whitening.finish_trial()
    net.train()
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(parameters.values(), lr=0.01, momentum=0.9)
    for _ in range(2):
        output = net(image)
        loss = cross_entropy(output.logits, label) + 0.4 * aux_cross_entropy(output.aux_logits, label)
        if output.whitened:
            loss = loss + 0.6 * whitening.loss(output.whitened)
        optimizer.zero_grad()
        loss.backward()
        assert loss.isfinite()
        assert [name for name, p in parameters.items() if p.grad is None or not p.grad.isfinite().all()] == []
        optimizer.step()
    assert output.logits.shape == (2, 19, 32, 48)
    assert output.aux_logits.shape[:2] == (2, 19)
    if len(set(codes)) == 2:
        channels = next(c for start, c in WHITENED_CHANNELS.items() if arch.startswith(f"Deep{start}"))
        assert [maps.shape[1] for maps in output.whitened] == (channels if codes[2] in (1, 2) else [])


def outputs_and_state(net, image):
    """Return the outputs of a pass in train mode and of one in eval mode, and the state_dict after them."""
    outputs = []
    for mode in (True, False):
        torch.manual_seed(0)  # of the dropout
        output = net.train(mode)(image)
        outputs += [output.logits, *output.whitened, *([output.aux_logits] if mode else [])]
    return outputs, {key.removeprefix("_orig_mod."): value for key, value in net.state_dict().items()}


ONE_OF_EACH = [name for name in NAMES if "_OS" not in name and name != "DeepMNASNet10V3PlusD"]


@pytest.mark.parametrize(
    ("arch", "codes"), matrix([(0, 0, 2, 2, 2, 0, 0), MIXED], quick=(), names=ONE_OF_EACH)
)
def test_compiled_forward_and_backward_equal_eager_ones(arch, codes):
    """One graph includes the maps that layers hold until they are taken; a break raises by `fullgraph`."""
    torch.compiler.reset()
    torch.manual_seed(0)
    net = ARCHS[arch](wt_layer=codes).double()  # compiled norms round otherwise, which float32 shows
    image = batch()[0].double()
    expected = outputs_and_state(copy.deepcopy(net), image)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(outputs_and_state(compiled, image), expected, rtol=1e-9, atol=1e-9)
    compiled.train()(image).logits.square().mean().backward()
    assert next(net.parameters()).grad.isfinite().all()
    assert set(net.take_whitened()) <= {None}


def test_compiled_without_a_graph_break():
    torch.compiler.reset()
    net = ARCHS[SMALL](wt_layer=(0, 0, 1, 2, 5, 0, 0)).double()
    compiled = torch.compile(net, backend="eager", fullgraph=True)  # raises at a break
    image = batch()[0].double()  # compiled instance norms round otherwise, which float32 shows
    torch.manual_seed(0)
    expected = net(image)
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(image), expected, rtol=1e-9, atol=1e-9)
    assert net.take_whitened() == (None, None)


@pytest.mark.parametrize(("arch", "codes"), matrix([MIXED], quick=(SMALL, "DeepShuffleNetV3PlusD")))
def test_channels_last_gives_the_same(arch, codes):
    torch.manual_seed(0)
    net = ARCHS[arch](wt_layer=codes).double()
    image = batch()[0].double()
    expected = outputs_and_state(copy.deepcopy(net), image)
    last = net.to(memory_format=torch.channels_last)
    assert last.bot_aspp[0].weight.is_contiguous(memory_format=torch.channels_last)
    actual = outputs_and_state(last, image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("arch", "strides", "rates"),
    [
        ("DeepR18V3PlusD", (4, 4, 8, 16, 32), [3, 6, 9]),
        ("DeepR50V3PlusD", (4, 4, 8, 16, 16), [6, 12, 18]),
        ("DeepR50V3PlusD_OS8", (4, 4, 8, 8, 8), [12, 24, 36]),
        ("DeepR101V3PlusD", (4, 4, 8, 16, 16), [6, 12, 18]),
        ("DeepResNext101V3PlusD_OS4", (4, 4, 4, 4, 4), [24, 48, 72]),
        ("DeepMobileNetV3PlusD", (2, 8, 16, 16, 16), [6, 12, 18]),
        ("DeepMobileNetV3PlusD_OS8", (2, 8, 8, 8, 8), [12, 24, 36]),
        ("DeepShuffleNetV3PlusD", (4, 8, 16, 16, 16), [6, 12, 18]),
        ("DeepShuffleNetV3PlusD_OS8", (4, 8, 8, 8, 8), [12, 24, 36]),
        ("DeepShuffleNetV3PlusD_OS32", (4, 8, 16, 32, 32), [3, 6, 9]),
        ("DeepMNASNet10V3PlusD", (2, 8, 16, 16, 16), [6, 12, 18]),
    ],
)
def test_strides_and_rates(arch, strides, rates):
    x, sizes = torch.empty(1, 3, 64, 64, device="meta"), []
    with torch.device("meta"):  # only sizes are computed
        net = ARCHS[arch]().eval()
    for stage in (net.layer0, net.layer1, net.layer2, net.layer3, net.layer4):
        x = stage(x)
        sizes.append(64 // x.shape[-1])
    assert tuple(sizes) == strides
    assert [branch[0].dilation[0] for branch in net.aspp.features[1:]] == rates


def test_dilation_reaches_the_first_block():
    with torch.device("meta"):
        net = ARCHS["DeepR50V3PlusD_OS8"]()
    dilations = [[block.conv2.dilation[0] for block in stage] for stage in (net.layer3, net.layer4)]
    assert dilations == [[2] * 6, [4] * 3]


@pytest.mark.parametrize("arch", QUICK)
def test_eval_mode_takes_one_image_of_odd_size_and_has_no_aux(arch):
    output = ARCHS[arch](wt_layer=MIXED).eval()(torch.randn(1, 3, 61, 75))
    assert output.aux_logits is None
    assert output.logits.shape == (1, 19, 61, 75) and output.logits.isfinite().all()


def test_train_mode_takes_odd_sizes():
    output = ARCHS[SMALL](wt_layer=(0, 0, 2, 2, 2, 0, 0))(torch.randn(2, 3, 61, 75))
    assert output.logits.shape == (2, 19, 61, 75)
    assert output.aux_logits.shape == (2, 19, 4, 5)  # 1/16, rounded up


def test_a_single_image_cannot_be_trained_on():
    with pytest.raises(ValueError, match="2 or more images .* not 1"):
        ARCHS[SMALL]()(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize(("code", "message"), [(1, "1 x 1"), (2, "1 x 1"), (3, "spatial element")])
def test_maps_of_one_pixel_cannot_be_whitened(code, message, mode):
    """32 px at output stride 32 are one pixel in layer4."""
    net = ARCHS[SMALL](wt_layer=(0, 0, 0, 0, 0, 0, code)).train(mode)
    with pytest.raises(ValueError, match=message):
        net(torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize("code", [0, 5, 6])
def test_maps_of_one_pixel_otherwise_train(code):
    """Batch norm and the norms that whiten over the batch use the values of all images."""
    output = ARCHS[SMALL](wt_layer=(0, 0, 0, 0, 0, 0, code))(torch.randn(2, 3, 32, 32))
    assert output.logits.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("arch", [SMALL, "DeepMobileNetV3PlusD"])
def test_autocast_keeps_covariance_and_whitening_loss_in_float32(arch, dtype):
    """The loss equals that of the same maps in float64, up to rounding in float32."""
    torch.manual_seed(0)
    net = ARCHS[arch](wt_layer=(0, 0, 1, 1, 1, 0, 0))
    whitening = Whitening.for_network(net, clusters=3, relax_denom=0)
    with torch.autocast("cpu", dtype):
        output = net(batch()[0])
        assert output.logits.dtype == dtype
        loss = whitening.loss(output.whitened)
        covariances = [covariance(maps) for maps in output.whitened]
    assert {loss.dtype, *(c.dtype for c in covariances)} == {torch.float32}
    exact = whitening.loss(tuple(maps.double() for maps in output.whitened))
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
    loss.backward()
    assert next(net.parameters()).grad.isfinite().all()


def test_whitened_maps_are_those_of_forward():
    net = ARCHS[SMALL](wt_layer=(0, 0, 2, 2, 0, 0, 0)).eval()
    image = torch.randn(2, 3, 64, 64)
    for early, full in zip(net.whitened_maps(image), net(image).whitened, strict=True):
        torch.testing.assert_close(early, full)


def test_whitened_maps_are_taken_before_the_relu():
    net = ARCHS[SMALL](wt_layer=(0, 0, 1, 1, 0, 0, 0))
    for maps in net(torch.randn(2, 3, 64, 64)).whitened:
        torch.testing.assert_close(maps.mean((2, 3)), torch.zeros(maps.shape[:2]), atol=1e-5, rtol=0)


def test_fixed_pooling_window():
    """A window of 2 on a 1 x 4 map slides to three means; the full window gives one mean everywhere."""
    aspp = ARCHS[SMALL]().eval().aspp
    aspp.img_conv = torch.nn.Identity()
    x = torch.tensor([0.0, 2.0, 4.0, 6.0]).expand(1, 512, 1, 4)
    assert aspp(x)[0, 0, 0].tolist() == [3, 3, 3, 3]
    aspp.pool_window = 2
    # means 1, 3, 5, stretched over four places with corners aligned: steps of 4/3
    torch.testing.assert_close(aspp(x)[0, 0, 0], torch.tensor([1, 7 / 3, 11 / 3, 5]))


def test_every_norm_of_the_deep_stem():
    with torch.device("meta"):
        net = ARCHS["DeepR101V3PlusD"](wt_layer=(1, 2, 3, 0, 0, 0, 0))
        whitened = net(torch.empty(2, 3, 64, 64)).whitened
    assert [type(net.layer0[i]).__name__ for i in (1, 4, 7)] == [
        "InstanceWhitening",
        "SelectiveInstanceWhitening",
        "InstanceNorm",
    ]
    assert [maps.shape[1] for maps in whitened] == [64, 64]


@pytest.mark.parametrize("arch", QUICK)
def test_codes_without_a_place_warn(arch, caplog):
    with caplog.at_level("WARNING", "robustnet"):
        ARCHS[arch](wt_layer=(2, 2, 0, 0, 0, 0, 0))
    assert "positions [0, 1] of wt_layer" in caplog.text


def test_mobilenets_last_position_does_nothing(caplog):
    net = ARCHS["DeepMobileNetV3PlusD"](wt_layer=(0, 0, 0, 0, 0, 0, 2))
    assert "positions [6] of wt_layer" in caplog.text
    assert net(torch.randn(2, 3, 64, 64)).whitened == ()


def test_shufflenets_replaced_norms_stay_but_are_not_trained():
    net = ARCHS["DeepShuffleNetV3PlusD"](wt_layer=(0, 0, 1, 0, 0, 0, 4))
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert frozen == [
        f"{conv}.1.{leaf}" for conv in ("layer0.layer.0", "layer4.layer") for leaf in ("weight", "bias")
    ]
    assert len(net(torch.randn(2, 3, 64, 64)).whitened) == 1
    assert "layer4.instance_norm_layer.weight" in net.state_dict()


def test_a_later_convolution_of_a_mobile_backbone_stays_undilated():
    """Only those whose stride was 2 change."""
    net = ARCHS["DeepMobileNetV3PlusD_OS8"]()
    for stage, dilation in ((net.layer2, 2), (net.layer3, 4)):
        dilations = [m.dilation[0] for m in stage.modules() if isinstance(m, torch.nn.Conv2d)]
        assert sorted(set(dilations)) == [1, dilation] and dilations.count(dilation) == 1


def test_callers_find_every_name_in_deepv3():
    with torch.device("meta"):
        net = network.deepv3.DeepR50V3PlusD(num_classes=5, wt_layer=(0,) * 7, pretrained=None)
    assert isinstance(net, DeepV3Plus) and net.final2[0].out_channels == 5
    for name in NAMES:
        assert getattr(network.deepv3, name) is ARCHS[name]


def test_a_new_architecture_is_one_line_under_any_name(monkeypatch):
    monkeypatch.setitem(ARCHS, "tiny", builder(DeepV3Plus, "mobilenet.build", "mobilenet_v2", 8))
    args = Args()
    args.arch = "tiny"
    assert isinstance(get_net(args, num_classes=7), DeepV3Plus)


class Args:
    arch, wt_layer, pretrained = "network.deepv3.DeepR18V3PlusD", [0] * 7, "none"


def test_get_net_takes_both_forms_of_the_name():
    assert isinstance(get_net(Args()), DeepV3Plus)
    short = Args()
    short.arch = "DeepR18V3PlusD"
    assert isinstance(get_net(short), DeepV3Plus)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "DeepWV3Plus"}, "DeepWV3Plus; did you mean DeepR50V3PlusD"),
        ({"wt_layer": [0, 0, 2]}, r"--wt_layer .*7.* not 3: \[0, 0, 2\]"),
        ({"wt_layer": [0, 0, 9, 0, 0, 0, 0]}, r"--wt_layer .*0 NONE, 1 IW.*, not \[9\]"),
    ],
)
def test_bad_choices_are_named(change, message):
    args = Args()
    vars(args).update(change)
    with pytest.raises(UserError, match=message):
        get_net(args)


def test_the_deep_stem_starts_from_the_published_distribution():
    """F8: every convolution of the backbone is He et al.'s (fan out), those of the head too (fan in)."""
    golden = json.loads((GOLDEN / "fidelity_F8.json").read_text())["F8 start"]
    torch.manual_seed(0)
    net = ARCHS[golden["arch"]]()
    modules = dict(net.named_modules())
    convs = [name for name, m in modules.items() if isinstance(m, nn.Conv2d)]
    expected = {name: group["std"] for group in golden["groups"] for name in group["convs"]}
    assert set(expected) == {name for name in convs if name.startswith("layer")}
    for name in convs:
        weight, bias = modules[name].weight, modules[name].bias
        std = expected.get(name, (2 / weight[0].numel()) ** 0.5)
        tolerance = 6 / (2 * weight.numel()) ** 0.5 + 0.005
        assert abs(weight.std() / std - 1) < tolerance and abs(weight.mean() / std) < tolerance, name
        assert bias is None or not bias.any()
    norms = [m for m in modules.values() if isinstance(m, nn.BatchNorm2d)]
    assert all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)
