import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detector.anchors.class_code import ClassCode, Terms

NEGATIVES = ClassCode(num_classes=3)
ROWS = [
    ("sigmoid", "negatives", 3),
    ("sigmoid", "class", 4),
    ("softmax", "class", 4),
    ("sigmoid", "ignored", 3),
    ("softmax", "ignored", 3),
]


def make(activation: str, background: str, num_classes: int = 3) -> ClassCode:
    prior = None if background == "ignored" else 0.01
    return ClassCode(
        num_classes=num_classes, activation=activation, background=background, prior=prior
    )


@pytest.mark.parametrize(("activation", "background", "channels"), ROWS)
def test_channels(activation: str, background: str, channels: int) -> None:
    code = make(activation, background)
    assert code.channels == channels == len(code.bias())
    assert code.trains_background == (background != "ignored")
    assert code.multi_label == (activation == "sigmoid")


@pytest.mark.parametrize(
    ("row", "by_hand"),  # odds 0.01 / 0.99: log is -4.595120; log(3) = 1.098612
    [
        (("sigmoid", "negatives"), [-4.595120] * 3),
        (("sigmoid", "class"), [-4.595120] * 3 + [4.595120]),
        (("softmax", "class"), [0, 0, 0, 5.693732]),
        (("sigmoid", "ignored"), [0, 0, 0]),
        (("softmax", "ignored"), [0, 0, 0]),
    ],
)
def test_bias_by_hand(row: tuple[str, str], by_hand: list[float]) -> None:
    torch.testing.assert_close(make(*row).bias(), torch.tensor(by_hand, dtype=torch.float32))


@pytest.mark.parametrize("num_classes", [1, 3, 80])
@pytest.mark.parametrize("prior", [0.01, 0.3])
def test_untrained_foreground_is_the_prior(num_classes: int, prior: float) -> None:
    """Each class under independent classes, all together where one excludes the other."""
    each = ClassCode(num_classes=num_classes, prior=prior)
    torch.testing.assert_close(each.scores(each.bias()), torch.full((num_classes,), prior))
    apart = ClassCode(num_classes=num_classes, background="class", prior=prior)
    torch.testing.assert_close(
        apart.bias().sigmoid(), torch.tensor([prior] * num_classes + [1 - prior])
    )
    one_of = ClassCode(
        num_classes=num_classes, activation="softmax", background="class", prior=prior
    )
    torch.testing.assert_close(one_of.scores(one_of.bias()).sum(), torch.tensor(prior))


def test_scores_by_hand() -> None:
    ln3 = math.log(3)
    torch.testing.assert_close(
        NEGATIVES.scores(torch.tensor([0.0, ln3, -ln3])), torch.tensor([0.5, 0.75, 0.25])
    )
    with_channel = make("sigmoid", "class")
    torch.testing.assert_close(  # times 1 - 0.75
        with_channel.scores(torch.tensor([0.0, ln3, -ln3, ln3])),
        torch.tensor([0.125, 0.1875, 0.0625]),
    )
    logits = torch.tensor([0.0, ln3, 0.0, ln3])  # 1 3 1 3, of 8
    torch.testing.assert_close(
        make("softmax", "class").scores(logits), torch.tensor([0.125, 0.375, 0.125])
    )
    torch.testing.assert_close(
        make("softmax", "ignored").scores(logits[:3]), torch.tensor([0.2, 0.6, 0.2])
    )


def test_background_is_the_last_channel() -> None:
    labels = torch.tensor([[False, True, False], [False, False, False]])
    expected = torch.tensor([[False, True, False, False], [False, False, False, True]])
    assert make("sigmoid", "class").truth(labels).equal(expected)
    assert NEGATIVES.truth(labels) is labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_terms_by_independent_classes(dtype: torch.dtype) -> None:
    """Against float64 logsigmoid, from tiny to huge and both signs."""
    size = torch.logspace(-8, 4, 200, dtype=torch.float64)
    exact = torch.cat([-size, torch.zeros(1, dtype=torch.float64), size]).to(dtype).double()
    logits = exact.to(dtype)[:, None].expand(-1, 3)
    terms = NEGATIVES.terms(logits, torch.zeros(len(logits), 3, dtype=torch.bool))
    tight = 3e-7 if dtype == torch.float32 else 1e-15
    expected = F.logsigmoid(-exact)[:, None].expand(-1, 3)
    torch.testing.assert_close(terms.log_p.double(), expected, rtol=tight, atol=1e-38)
    expected = F.logsigmoid(exact)[:, None].expand(-1, 3)
    torch.testing.assert_close(terms.log_q.double(), expected, rtol=tight, atol=40 * tight)


@given(st.floats(-1e4, 1e4, width=32), st.booleans())
def test_terms_gradients(logit: float, positive: bool) -> None:
    """d log sigmoid(x) = sigmoid(-x), d log sigmoid(-x) = -sigmoid(x)."""
    one = ClassCode(num_classes=1)
    x = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
    terms = one.terms(x, torch.tensor([positive]))
    sign = 1 if positive else -1
    (by_p,) = torch.autograd.grad(terms.log_p.sum(), x, retain_graph=True)
    (by_q,) = torch.autograd.grad(terms.log_q.sum(), x)
    torch.testing.assert_close(by_p, sign * (-sign * x.detach()).sigmoid())
    torch.testing.assert_close(by_q, -sign * (sign * x.detach()).sigmoid())


def test_terms_of_one_of_by_hand() -> None:
    """Logits log 1, log 2, log 1, log 4: probabilities of an eighth 1, 2, 1, 4."""
    logits = torch.tensor([1.0, 2.0, 1.0, 4.0]).log().expand(2, 4)
    labels = torch.tensor([[False, True, False], [False, False, False]])
    terms = make("softmax", "class").terms(logits, labels)
    torch.testing.assert_close(terms.log_p.exp(), torch.tensor([[0.25], [0.5]]))
    torch.testing.assert_close(terms.log_q.exp(), torch.tensor([[0.75], [0.5]]))
    assert terms.positive.tolist() == [[True], [False]]


@pytest.mark.parametrize(("activation", "background", "channels"), ROWS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_terms_are_finite_and_at_least_float32(
    activation: str, background: str, channels: int, dtype: torch.dtype
) -> None:
    logits = torch.tensor([1e4, -1e4, 0.0, 1e4][:channels], dtype=dtype).expand(4, channels)
    labels = torch.eye(4, 3, dtype=torch.bool)  # the last row is background
    terms = make(activation, background).terms(logits, labels)
    assert terms.log_p.dtype == torch.promote_types(dtype, torch.float32)
    assert terms.log_p.isfinite().all() and terms.log_q.isfinite().all()


def test_one_class_says_the_same_with_and_without_its_rival() -> None:
    """K = 1: a logit against 0 is a one-of over the two."""
    logit, label = torch.randn(20, 1), torch.rand(20, 1) < 0.5
    alone = ClassCode(num_classes=1).terms(logit, label)
    code = ClassCode(num_classes=1, activation="softmax", background="class")
    pair = code.terms(torch.cat([logit, torch.zeros(20, 1)], dim=1), label)
    for name in ("log_p", "log_q", "positive"):
        torch.testing.assert_close(getattr(alone, name), getattr(pair, name))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"num_classes": 0}, "at least one class"),
        ({"num_classes": 3, "activation": "softmax"}, "set background to 'class' or 'ignored'"),
        ({"num_classes": 3, "background": "ignored"}, "set prior to None"),
        ({"num_classes": 3, "activation": "tanh"}, "activation is .tanh.; .*sigmoid, softmax"),
        ({"num_classes": 3, "prior": 1.0}, "prior is 1.0; .* between 0 and 1"),
    ],
)
def test_refused(keys: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ClassCode(**keys)


def test_compiled_terms_equal_eager() -> None:
    logits, labels = torch.randn(5, 3), torch.rand(5, 3) < 0.5

    def log_p(logits: Tensor) -> Tensor:
        return NEGATIVES.terms(logits, labels).log_p

    compiled = torch.compile(log_p, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits), log_p(logits))


ONE_OF = make("softmax", "class")
EIGHTHS = torch.tensor([[1.0, 2.0, 1.0, 4.0]], dtype=torch.float64).log()


def log_q(terms: Terms) -> Tensor:
    return terms.log_q


def test_mean_over_two_outcomes_by_hand() -> None:
    """p 3/4: the truth misses by a quarter, its opposite by three; alpha would weigh them apart."""
    labels = torch.tensor([[True, False, True]])
    terms = NEGATIVES.terms(torch.full((1, 3), 3.0).log(), labels)
    actual = terms.mean_over_outcomes(lambda t: t.log_q.exp() + 10 * t.positive)
    torch.testing.assert_close(actual, torch.full((1, 3), 0.5 + 5))


def test_mean_over_the_outcomes_of_one_of_by_hand() -> None:
    """1 - p is 7, 6, 7 and 4 eighths; three of the four outcomes are foreground."""
    terms = ONE_OF.terms(EIGHTHS, torch.tensor([[False, True, False]]))
    actual = terms.mean_over_outcomes(lambda t: t.log_q.exp() + 10 * t.positive)
    torch.testing.assert_close(actual, torch.tensor([[24 / 32 + 7.5]]).double())
    actual = terms.mean_over_outcomes(lambda t: t.log_p)
    torch.testing.assert_close(actual, EIGHTHS.log_softmax(-1).mean(-1, keepdim=True))


@given(st.lists(st.floats(-60, 60), min_size=4, max_size=4))
def test_outcomes_of_one_of_miss_by_the_sum_of_the_others(logits: list[float]) -> None:
    """In float32, also where p is all but 1; and the gradient is that of the exact formula."""
    z = torch.tensor([logits], dtype=torch.float32, requires_grad=True)
    exact = z.detach().double().requires_grad_()
    terms = ONE_OF.terms(z, torch.tensor([[True, False, False]]))
    actual = terms.mean_over_outcomes(log_q)
    others = exact.expand(4, 4).masked_fill(torch.eye(4, dtype=torch.bool), -torch.inf)
    expected = (others.logsumexp(1) - exact.logsumexp(1)).mean()
    torch.testing.assert_close(actual.double().squeeze(), expected, rtol=1e-5, atol=1e-5)
    slopes = torch.autograd.grad(actual, z)[0].double(), torch.autograd.grad(expected, exact)[0]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-5)


def test_values_of_classes_by_hand() -> None:
    values = torch.tensor([2.0, 3.0, 5.0])
    labels = torch.tensor([[False, True, False], [False, False, False]])
    own = make("sigmoid", "class").terms(torch.zeros(2, 4), labels)
    assert own.by_label(values, background=7.0).tolist() == [[3], [7]]
    one_of = ONE_OF.terms(torch.zeros(2, 4), labels)
    assert one_of.by_label(values, background=7.0).tolist() == [[3], [7]]
    several = NEGATIVES.terms(torch.zeros(1, 3), torch.tensor([[True, False, True]]))
    assert several.by_label(values, background=7.0).tolist() == [[3.5]]


def test_the_prior_is_the_papers_unless_another_is_given() -> None:
    """Lin et al. 2017, section 4.1: 0.01, so that the bias is -ln 99."""
    assert ClassCode(num_classes=1).bias().item() == pytest.approx(-4.59512)
