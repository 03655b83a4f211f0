import numpy as np
import pytest
import tensorflow as tf
from tiny import randomize

from dreamerv2 import nets
from dreamerv2.codec import Decoder, Encoder, split_keys
from dreamerv2.common.errors import UserError
from dreamerv2.convolutions import Conv, TransposedConv, conv_size, transposed_size

RNG = np.random.default_rng(0)
MIXED = {"front": (64, 64, 3), "pose": (4,), "map": (64, 64, 1), "speed": (1,)}
SETTINGS = {
    "cnn_keys": ".*", "mlp_keys": ".*", "act": "elu", "norm": "none", "cnn_depth": 2,
    "mlp_layers": (6,),
}  # fmt: skip
CALLS = [pytest.param(lambda f: f, id="eager"), pytest.param(tf.function, id="compiled")]


def encoder(shapes, **changes):
    settings = {**SETTINGS, "cnn_kernels": (4, 4, 4, 4), **changes}
    layer = Encoder(shapes, name="encoder", **settings)
    layer.build()
    randomize(layer.variables, scale=0.2)
    return layer


def decoder(shapes, features=5, **changes):
    settings = {**SETTINGS, "cnn_kernels": (5, 5, 6, 6), **changes}
    layer = Decoder(shapes, name="decoder", **settings)
    layer.build((None, features))
    randomize(layer.variables, scale=0.2)
    return layer


def observations(shapes, leading=(2, 3)):
    return {k: RNG.normal(size=leading + s).astype(np.float32) for k, s in shapes.items()}


def elu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def np_conv(x, kernel, bias):
    """Convolve one image with stride 2, patch by patch."""
    size = kernel.shape[0]
    height, width = ((n - size) // 2 + 1 for n in x.shape[:2])
    out = np.zeros((height, width, kernel.shape[-1]))
    for i, j in np.ndindex(height, width):
        patch = x[2 * i : 2 * i + size, 2 * j : 2 * j + size]
        out[i, j] = np.einsum("hwc,hwcf->f", patch, kernel) + bias
    return out


def np_transposed_conv(x, kernel, bias):
    """Stamp the kernel, scaled by every input pixel, onto the output."""
    size = kernel.shape[0]
    height, width = ((n - 1) * 2 + size for n in x.shape[:2])
    out = np.zeros((height, width, kernel.shape[2])) + bias
    for i, j in np.ndindex(*x.shape[:2]):
        stamp = np.einsum("hwfc,c->hwf", kernel, x[i, j])
        out[2 * i : 2 * i + size, 2 * j : 2 * j + size] += stamp
    return out


def named(layer):
    return {v.path.split("/", 1)[1]: np.array(v) for v in layer.variables}


def test_keys_are_chosen_by_rank_and_pattern():
    assert split_keys(MIXED, ".*", ".*") == (["front", "map"], ["pose", "speed"])
    assert split_keys(MIXED, "map|pose", "$^") == (["map"], [])
    assert split_keys(MIXED, "ap", "sp") == ([], ["speed"])  # Matched from the start.


def test_sizes():
    for size in range(22, 70):
        maps = tf.keras.layers.Conv2D(1, 4, 2)(tf.zeros([1, size, size, 1]))
        assert conv_size(size, [4]) == maps.shape[1]
    assert conv_size(64, [4, 4, 4, 4]) == 2
    assert [transposed_size(n, [5, 5, 6, 6]) for n in (1, 2, 3)] == [64, 80, 96]


@pytest.mark.parametrize("call", CALLS)
def test_encoder_against_numpy(call):
    shapes = {"image": (12, 14, 2), "vector": (3,)}
    layer = encoder(shapes, cnn_kernels=(4, 3))
    data = observations(shapes, (2,))
    w = named(layer)
    expected = []
    for image, vector in zip(data["image"], data["vector"], strict=True):
        for i in range(2):
            image = elu(np_conv(image, w[f"conv{i}/kernel"], w[f"conv{i}/bias"]))
        vector = elu(vector @ w["mlp/dense0/kernel"] + w["mlp/dense0/bias"])
        expected.append(np.concatenate([image.ravel(), vector]))
    assert layer.output_size == len(expected[0])
    np.testing.assert_allclose(call(layer)(data), expected, rtol=1e-3, atol=1e-4)


def test_encoder_joins_all_keys_and_ignores_others():
    layer = encoder(MIXED)
    data = observations(MIXED)
    embed = layer(data)
    assert embed.shape == (2, 3, layer.output_size)
    for key in MIXED:
        changed = layer({**data, key: data[key] + 1.0})
        assert np.abs(changed - embed).max() > 1e-4, key
    np.testing.assert_array_equal(
        layer({**data, "reward": data["pose"], "log_x": data["pose"]}), embed
    )


def test_leading_dimensions_do_not_matter():
    enc, dec = encoder(MIXED), decoder(MIXED)
    data = observations(MIXED, (2, 3))
    flat = enc({k: v.reshape((6, *v.shape[2:])) for k, v in data.items()})
    np.testing.assert_allclose(tf.reshape(enc(data), [6, -1]), flat, atol=1e-4)
    features = RNG.normal(size=(2, 3, 5)).astype(np.float32)
    whole, parts = dec(features), dec(features.reshape(6, 5))
    for key, shape in MIXED.items():
        assert whole[key].shape == (2, 3, *shape)
        np.testing.assert_allclose(tf.reshape(whole[key], [6, *shape]), parts[key], atol=1e-4)


def test_only_images_or_only_vectors():
    assert encoder(MIXED, mlp_keys="$^").output_size == 2 * 2 * 16
    assert encoder(MIXED, cnn_keys="$^").output_size == 6
    assert decoder(MIXED, mlp_keys="$^")(np.zeros((2, 5), np.float32)).keys() == {"front", "map"}
    assert decoder(MIXED, cnn_keys="$^")(np.zeros((2, 5), np.float32)).keys() == {"pose", "speed"}
    assert decoder(MIXED, cnn_keys="$^", mlp_keys="$^")(np.zeros((2, 5), np.float32)) == {}


@pytest.mark.parametrize("size", [(64, 64), (80, 80), (96, 96), (64, 96), (112, 80)])
def test_image_sizes(size):
    shapes = {"image": (*size, 3)}
    data = observations(shapes, (2,))
    embed = encoder(shapes)(data)
    expected = conv_size(size[0], [4] * 4) * conv_size(size[1], [4] * 4) * 16
    assert embed.shape == (2, expected)
    assert decoder(shapes)(np.ones((2, 5), np.float32))["image"].shape == (2, *size, 3)


@pytest.mark.parametrize("call", CALLS)
def test_decoder_against_numpy(call):
    shapes = {"left": (9, 13, 2), "right": (9, 13, 1), "vector": (3,)}
    layer = decoder(shapes, cnn_kernels=(3, 5))
    features = RNG.normal(size=(2, 5)).astype(np.float32)
    result = call(layer)(features)
    w = named(layer)
    assert w["conv0/kernel"].shape == (3, 3, 2, 64)
    for i, x in enumerate(features):
        image = (x @ w["convin/kernel"] + w["convin/bias"]).reshape(1, 2, 64)
        image = elu(np_transposed_conv(image, w["conv0/kernel"], w["conv0/bias"]))
        image = np_transposed_conv(image, w["conv1/kernel"], w["conv1/bias"])
        np.testing.assert_allclose(result["left"][i], image[..., :2], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(result["right"][i], image[..., 2:], rtol=1e-3, atol=1e-3)
        vector = elu(x @ w["mlp/dense0/kernel"] + w["mlp/dense0/bias"])
        vector = vector @ w["dense_vector/out/kernel"] + w["dense_vector/out/bias"]
        np.testing.assert_allclose(result["vector"][i], vector, rtol=1e-3, atol=1e-4)


def test_decoder_distributions_are_normals_around_the_means():
    layer = decoder(MIXED)
    features = RNG.normal(size=(2, 3, 5)).astype(np.float32)
    data = observations(MIXED)
    means = layer(features)
    for key, dist in layer.dist(features).items():
        np.testing.assert_array_equal(dist.mode(), means[key])
        square = np.square(data[key] - means[key]).reshape(2, 3, -1)
        expected = -0.5 * (square + np.log(2 * np.pi)).sum(-1)
        np.testing.assert_allclose(dist.log_prob(data[key]), expected, rtol=1e-4)


@pytest.mark.parametrize("precision", [16, "bfloat16"])
def test_low_precision_predictions_are_float32(precision):
    policy = nets.dtype_policy(precision)
    layer = Decoder(MIXED, **SETTINGS, cnn_kernels=(5, 5, 6, 6), name="d", dtype=policy)
    layer.build((None, 5))
    features = RNG.normal(size=(2, 5)).astype(np.float32)
    assert {mean.dtype for mean in layer(features).values()} == {tf.float32}
    low = Encoder(MIXED, **SETTINGS, cnn_kernels=(4, 4, 4, 4), name="e", dtype=policy)
    low.build()
    assert low(observations(MIXED)).dtype == policy.compute_dtype


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_norm_of_the_image_itself_is_never_taken(norm):
    names = {v.path for v in decoder({"image": (64, 64, 1)}, norm=norm).variables}
    convolutions = {n for n in names if "convnorm" in n and "gamma" in n}
    normed = range(3) if norm == "layer" else ()
    assert convolutions == {f"decoder/convnorm{i}/gamma" for i in normed}
    names = {v.path for v in encoder({"image": (64, 64, 1)}, norm=norm).variables}
    assert ("encoder/convnorm3/gamma" in names) == (norm == "layer")


def same_results_and_gradients(function, plain, x, weights):
    """Compare two functions of x: their values, and the gradients of x and weights."""
    scale = tf.constant(RNG.normal(size=plain(x).shape), tf.float32)
    results = []
    for each in (function, plain):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = each(x)
            total = tf.reduce_sum(out * scale)
        results.append([out, *tape.gradient(total, [x, *weights])])
    for ours, theirs in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    return results[0][0]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("size", "kernel"),
    [((4, 4), 4), ((6, 6), 4), ((7, 6), 4), ((4, 11), 4), ((5, 3), 3), ((8, 6), 4), ((9, 9), 2)],
)
def test_convolution_equals_tensorflows(size, kernel, call):
    layer = Conv(5, kernel, name="conv")
    layer.build((None, *size, 3))
    randomize(layer.variables)
    x = tf.constant(RNG.normal(size=(2, *size, 3)), tf.float32)
    weights = layer.kernel.value, layer.bias.value

    def plain(x):
        return tf.nn.conv2d(x, weights[0], 2, "VALID") + weights[1]

    out = same_results_and_gradients(call(layer), plain, x, weights)
    expected = np_conv(np.array(x[0]), *map(np.array, weights))
    np.testing.assert_allclose(out[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("size", "filters", "kernel"),
    [
        ((1, 1), 3, 5),
        ((1, 2), 3, 5),
        ((3, 2), 9, 6),
        ((3, 2), 1, 6),
        ((1, 4), 3, 2),
        ((2, 3), 4, 4),
    ],
)
def test_transposed_convolution_equals_tensorflows(size, filters, kernel, call):
    layer = TransposedConv(filters, kernel, name="conv")
    layer.build((None, *size, 4))
    randomize(layer.variables)
    x = tf.constant(RNG.normal(size=(2, *size, 4)), tf.float32)
    height, width = layer.output_size(size)
    kernel, bias = layer.kernel.value, layer.bias.value

    def plain(x):
        return tf.nn.conv2d_transpose(x, kernel, [2, height, width, filters], 2, "VALID") + bias

    out = same_results_and_gradients(call(layer), plain, x, [kernel, bias])
    stamped = np_transposed_conv(np.array(x[0]), np.array(kernel), np.array(bias))
    np.testing.assert_allclose(out[0], stamped, rtol=1e-3, atol=1e-4)


def test_keys_may_contain_slashes():
    layer = decoder({"arm/pose": (3,), "arm/image": (64, 64, 1)})
    assert layer(np.zeros((2, 5), np.float32)).keys() == {"arm/pose", "arm/image"}
    encoder({"arm/pose": (3,)})


def refused(build):
    with pytest.raises(UserError) as error:
        build()
    return str(error.value)


def test_no_chosen_observation_is_refused():
    message = refused(lambda: encoder(MIXED, cnn_keys="x", mlp_keys="$^"))
    assert message == (
        "encoder.cnn_keys 'x' and encoder.mlp_keys '$^' choose none of the observations "
        "front, pose, map, speed; change one of them."
    )


def test_images_of_different_sizes_are_refused():
    shapes = {"a": (64, 64, 3), "b": (80, 64, 1)}
    for build, module in [(encoder, "encoder"), (decoder, "decoder")]:
        message = refused(lambda build=build: build(shapes))
        assert message.startswith(
            f"{module}.cnn_keys chooses images of different sizes (a 64x64, b 80x64)"
        )
    encoder(shapes, cnn_keys="a")


@pytest.mark.parametrize("size", [(84, 84), (64, 70), (48, 48)])
def test_sizes_the_decoder_cannot_make_are_refused_with_those_it_can(size):
    message = refused(lambda: decoder({"image": (*size, 3)}))
    assert f"images of {size[0]}x{size[1]}, but decoder.cnn_kernels [5, 5, 6, 6] can" in message
    assert "64, 80, 96, 112, ...; set render_size to such a size." in message


def test_images_too_small_for_the_encoder_are_refused():
    message = refused(lambda: encoder({"image": (16, 64, 3)}))
    assert message.startswith("render_size gives images of 16x64, too small for encoder.cnn_ker")
    assert "use at least 46x46 or fewer kernels" in message
    assert encoder({"image": (46, 46, 3)}).output_size == 16
