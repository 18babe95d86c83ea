"""Requests that will not do: path, body, and the status that they are answered with."""

MALFORMED = [
    ("/v1/images", b"", 422), ("/v1/images", b"{", 422), ("/v1/images", b"[]", 422), ("/v1/images", b"\xff\xfe", 422),
    ("/v1/images", b"[" * 5000, 400), ("/v1/images", {}, 422), ("/v1/images", {"seed": -1}, 422),
    ("/v1/images", {"seed": 2**62}, 422), ("/v1/images", {"seed": 10**400}, 422), ("/v1/images", {"seed": 1.5}, 422),
    ("/v1/images", {"seed": True}, 422), ("/v1/images", {"seed": "1"}, 422), ("/v1/images", {"seed": None}, 422),
    ("/v1/images", {"seed": 1, "seeds": [1]}, 422), ("/v1/images", {"seeds": []}, 422), ("/v1/images", {"seeds": [1], "n": 1}, 422),
    ("/v1/images", {"seed": 1, "n": 0}, 422), ("/v1/images", {"seed": 1, "n": 65}, 422), ("/v1/images", {"seeds": [1] * 65}, 422),
    ("/v1/images", {"seed": 1, "n": 2, "format": "png"}, 422), ("/v1/images", {"seed": 1, "format": "gif"}, 422),
    ("/v1/images/7.png?alias=", None, 422), ("/v1/images", {"seed": 1, "steps": 10**309}, 422), ("/v1/images/7.png?steps=" + "9" * 309, None, 422),
    ("/v1/images", {"seed": 1, "steps": 0}, 422), ("/v1/images", {"seed": 1, "steps": 51}, 422),
    ("/v1/images", {"seed": 1, "steps": 10**9}, 422), ("/v1/images", {"seed": 1, "sampler": "x"}, 422),
    ("/v1/images", {"seed": 1, "label": 0}, 422), ("/v1/images", {"seed": 1, "guidance": 2}, 422),
    ("/v1/images", b'{"seed": 1, "guidance": NaN}', 422), ("/v1/images", {"seed": 1, "walk_to": 2}, 422),
    ("/v1/images", {"seed": 2**62 - 1, "n": 2}, 422), ("/v1/images", {"seed": 1, "more": 1}, 422),
    ("/v1/images?alias=" + "x" * 101, {"seed": 1}, 422), ("/v1/images?alias=%00", {"seed": 1}, 422),
    ("/v1/images", b" " * 70000, 413), ("/v1/images/-1.png", None, 422), ("/v1/images/1e3.png", None, 422),
    ("/v1/images/1.png?steps=x", None, 422), ("/v1/images/1.png?step=1", None, 422), ("/v1/images/1.gif", None, 404),
    ("/v1/images/%00.png", None, 422), ("/v1/images/..%2f..%2fetc%2fpasswd", None, 404), ("/v1/images", None, 405),
    ("/v1/denoising/1.png?frames=1", None, 422), ("/v1/denoising/1.webp?frames=65", None, 422), ("/page/../x", None, 404),
    ("/v1/images/1.png?steps=1&%73teps=2", None, 422), ("/v1/images/1.png?alias=model&alias=model", None, 422), ("/v1/images/1.png/", None, 404),
    (f"/v1/images/{'9' * 5000}.png", None, 422), ("/v1/images/1.png?guidance=inf", None, 422), ("/%ff", None, 404),
]  # fmt: skip
