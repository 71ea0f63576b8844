# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Videos of a textured square that moves, whose displacement is known."""
import av
import cv2
import numpy as np


def texture(rng, height, width, blur):
    noise = cv2.GaussianBlur(
        rng.uniform(0, 255, (height, width, 3)).astype(np.float32), (0, 0), blur)
    return ((noise - noise.mean()) / noise.std() * 50 + 128).clip(0, 255)


class MovingSquare:
    """Frames (T, H, W, 3) uint8 and the square's corner (T, 2) in each."""

    def __init__(self, velocity, plain=False, frames=32, height=120, width=200, size=48,
                 seed=0):
        rng = np.random.default_rng(seed)
        self.velocity, self.size = np.array(velocity, float), size
        # inside at the first frame, heading for the other side
        far = np.array([width, height]) - size - 18
        start = np.where(self.velocity >= 0, 18.0, far)
        self.corners = start + np.arange(frames)[:, None] * self.velocity
        ground = np.full((height, width, 3), 110.0) if plain else texture(
            rng, height, width, 2)
        square = texture(rng, size, size, 1.5)
        self.frames = np.stack([
            self._draw(ground, square, corner) for corner in self.corners])

    def _draw(self, ground, square, corner):
        height, width = ground.shape[:2]
        move = np.float32([[1, 0, corner[0]], [0, 1, corner[1]]])
        cover = cv2.warpAffine(np.ones(square.shape[:2], np.float32), move,
                               (width, height))[..., None]
        painted = cv2.warpAffine(square.astype(np.float32), move, (width, height))
        return (ground * (1 - cover) + painted * cover).round().clip(0, 255).astype(
            np.uint8)

    def errors(self, field, frame, before):
        """Errors in px of a field (h, w, 2) at its places inside the square."""
        rows, cols = field.shape[:2]
        height, width = self.frames.shape[1:3]
        x = (np.arange(cols) + 0.5) * width / cols
        y = (np.arange(rows) + 0.5) * height / rows
        left, top = self.corners[frame]
        inside = (((y > top + 0.5) & (y < top + self.size - 0.5))[:, None]
                  & (x > left + 0.5) & (x < left + self.size - 0.5))
        truth = self.corners[before] - self.corners[frame]
        return np.linalg.norm(field - truth, axis=-1)[inside]


def encode(path, frames, codec='libx264', **options):
    """Write a video; options as the encoder's."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(
            codec, rate=25, options={key: str(value) for key, value in options.items()})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        if codec == 'mpeg4':
            stream.bit_rate = 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, 'rgb24')))
        container.mux(stream.encode())
    return str(path)
