"""The U-Net as a figure: levels, channels, where it attends, and its skip connections, drawn from its settings."""

from __future__ import annotations

from markupsafe import Markup

from ddpm.settings import ModelSettings, parse_mults

WIDTH, STEP, HIGH, TOP = 640, 64, 40, 34  # of the figure; from level to level; of a box; above the first
HALF = 150  # of a box of the widest level


def network_figure(settings: ModelSettings, image_size: int) -> Markup:
    """One box a level on the way down and on the way up, as wide as it has channels, the bottom between them."""
    mults = parse_mults(settings.channel_mults)
    widest, levels = max(mults), len(mults)
    height = TOP + (levels + 1) * STEP
    parts = [
        _text(WIDTH / 2, 14, f"picture {image_size}×{image_size}, 3 channels; noise level embedded in every block")
    ]
    for level, mult in enumerate(mults):
        size, channels = image_size // 2**level, settings.base_channels * mult
        attends = size <= settings.attention_resolution
        wide, y = max(46.0, HALF * mult / widest), TOP + level * STEP
        left, right = WIDTH / 4 - wide / 2, 3 * WIDTH / 4 - wide / 2
        for x, blocks in ((left, settings.blocks), (right, settings.blocks + 1)):
            parts.append(
                f'<rect class="level{" attends" * attends}" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{HIGH}" rx="4"/>'
            )
            parts.append(_text(x + wide / 2, y + 17, f"{channels}"))
            parts.append(
                _text(
                    x + wide / 2, y + 32, f"×{blocks}{' + attention' if attends and wide > 100 else ' + a' * attends}"
                )
            )
        middle = y + HIGH / 2
        parts.append(f'<line class="skip" x1="{left + wide:.1f}" x2="{right:.1f}" y1="{middle}" y2="{middle}"/>')
        parts.append(_text(WIDTH / 2, middle - 4, f"skip connections, {size}×{size}"))
        if level:
            for x, word in ((WIDTH / 4, "½"), (3 * WIDTH / 4, "×2")):
                parts.append(f'<line class="way" x1="{x}" x2="{x}" y1="{y - STEP + HIGH}" y2="{y}"/>')
                parts.append(_text(x + 12, y - 8, word))
    y = TOP + levels * STEP
    smallest = image_size // 2 ** (levels - 1)
    parts.append(
        f'<polyline class="way" points="{WIDTH / 4},{y - STEP + HIGH} {WIDTH / 4},{y + HIGH / 2} {WIDTH / 2 - 110},{y + HIGH / 2}"/>'
    )
    parts.append(
        f'<polyline class="way" points="{WIDTH / 2 + 110},{y + HIGH / 2} {3 * WIDTH / 4},{y + HIGH / 2} {3 * WIDTH / 4},{y - STEP + HIGH}"/>'
    )
    parts.append(f'<rect class="level attends" x="{WIDTH / 2 - 110}" y="{y}" width="220" height="{HIGH}" rx="4"/>')
    parts.append(_text(WIDTH / 2, y + 17, f"{settings.base_channels * mults[-1]}"))
    parts.append(_text(WIDTH / 2, y + 32, f"×2 + attention, {smallest}×{smallest}"))
    label = f"U-Net {settings.channel_mults} of {settings.base_channels}"
    return Markup(
        f'<svg class="network" role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {height}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{words}</text>'
