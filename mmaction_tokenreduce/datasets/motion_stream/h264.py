# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What H.264 headers say of references (ITU-T H.264, clause 7.3).

FFmpeg's motion vectors do not say to which frame they point. The slice headers say how
many frames each list of references has, and the NAL units which frames serve as one.
"""
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_HEADER_BYTES = 64  # enough for the parts of a slice header that are read
_UNIT_BYTES = 1024  # enough for parameter sets
_SLICE, _IDR_SLICE, _SPS, _PPS = 1, 5, 7, 8
# profile_idc with chroma_format_idc in the sequence parameter set
_CHROMA_PROFILES = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
_P, _B, _SP = 0, 1, 3  # slice_type modulo 5


class Picture(NamedTuple):
    """References of one coded picture.

    Attributes:
        is_reference (bool): Whether later pictures may refer to it.
        past (int): Active entries of list 0; 0 for an I-picture.
        idr (bool): Whether no later picture refers to one before it.
    """

    is_reference: bool
    past: int
    idr: bool


class UnknownHeader(ValueError):
    """A header that is damaged, or of a kind that is not read here."""


class _Bits:
    """Bits of a NAL unit's payload, first bit first."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b'\0\0\3', b'\0\0')  # emulation prevention
        self.value, self.left = int.from_bytes(data, 'big'), 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number."""
        self.left -= count
        if self.left < 0:
            raise UnknownHeader('the header ends early')
        return (self.value >> self.left) & ((1 << count) - 1)

    def unsigned(self) -> int:
        """An Exp-Golomb number, ue(v)."""
        rest = self.value & ((1 << self.left) - 1)
        zeros = self.left - rest.bit_length()
        if zeros > 32:
            raise UnknownHeader('no Exp-Golomb number')
        return self.take(2 * zeros + 1) - 1

    def skip_signed(self) -> None:
        """Skip se(v), which has as many bits as ue(v)."""
        self.unsigned()


@dataclass
class _Sequence:
    separate_planes: bool
    frame_number_bits: int
    order_type: int
    order_bits: int
    order_always_zero: bool
    frames_only: bool


@dataclass
class _PictureSet:
    sequence: int
    bottom_order: bool
    past: int
    redundant_count: bool


def _read_sequence(bits: _Bits) -> tuple[int, _Sequence]:
    profile = bits.take(8)
    bits.take(16)  # constraints and level
    number, separate = bits.unsigned(), False
    if profile in _CHROMA_PROFILES:
        chroma = bits.unsigned()
        separate = chroma == 3 and bool(bits.take(1))
        bits.unsigned()
        bits.unsigned()
        bits.take(1)
        if bits.take(1):
            _skip_scaling(bits, 8 if chroma != 3 else 12)
    frame_number_bits = bits.unsigned() + 4
    order_type, order_bits, always_zero = bits.unsigned(), 0, False
    if order_type == 0:
        order_bits = bits.unsigned() + 4
    elif order_type == 1:
        always_zero = bool(bits.take(1))
        bits.skip_signed()
        bits.skip_signed()
        for _ in range(bits.unsigned()):
            bits.skip_signed()
    bits.unsigned()  # max_num_ref_frames: the buffer's, not the lists'
    bits.take(1)
    bits.unsigned()
    bits.unsigned()
    return number, _Sequence(separate, frame_number_bits, order_type, order_bits,
                             always_zero, bool(bits.take(1)))


def _skip_scaling(bits: _Bits, lists: int) -> None:
    for index in range(lists):
        if not bits.take(1):
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                code = bits.unsigned()
                delta = (code + 1) // 2 if code % 2 else -(code // 2)
                following = (last + delta) % 256
            last = following or last


def _read_picture_set(bits: _Bits) -> tuple[int, _PictureSet]:
    number, sequence = bits.unsigned(), bits.unsigned()
    bits.take(1)
    bottom = bool(bits.take(1))
    if bits.unsigned():
        raise UnknownHeader('slice groups')
    past = bits.unsigned() + 1
    bits.unsigned()
    bits.take(3)
    for _ in range(3):
        bits.skip_signed()
    bits.take(2)
    return number, _PictureSet(sequence, bottom, past, bool(bits.take(1)))


class HeaderReader:
    """Reads the references of H.264 pictures from a stream's packets.

    Args:
        extradata (bytes, optional): The stream's, with or without parameter sets; as in
            mp4 (avcC) or with start codes.

    Attributes:
        most_past (int): The most active entries of list 0 that parameter sets or slices
            have had.
    """

    def __init__(self, extradata: bytes | None) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._picture_sets: dict[int, _PictureSet] = {}
        self.most_past = 0
        self._length_size = 0  # 0 where units follow start codes
        extradata = extradata or b''
        if extradata[:1] == b'\1' and len(extradata) > 6:
            self._length_size = (extradata[4] & 3) + 1
            for unit in _avcc_units(extradata):
                self._note_parameters(unit)
        else:
            for unit in _start_code_units(extradata):
                self._note_parameters(unit)

    def read(self, packet: memoryview) -> Picture | None:
        """Read the slice headers of a packet.

        Args:
            packet (memoryview): One coded picture.

        Returns:
            Picture, optional: Its references, the most that any slice has; None where
                the headers cannot be read.
        """
        split = _start_code_units(bytes(packet)) if not self._length_size else (
            _length_units(packet, self._length_size))
        result = None
        try:
            for unit in split:
                kind = unit[0] & 31
                if kind in (_SLICE, _IDR_SLICE):
                    past = self._slice_references(unit, kind)
                    most = max(past, result.past if result else 0)
                    self.most_past = max(self.most_past, most)
                    result = Picture(bool(unit[0] & 0x60), most, kind == _IDR_SLICE)
                elif kind in (_SPS, _PPS):
                    self._note_parameters(unit)
        except (UnknownHeader, KeyError):
            return None
        return result

    def _note_parameters(self, unit: bytes) -> None:
        kind = unit[0] & 31
        try:
            if kind == _SPS:
                number, sequence = _read_sequence(_Bits(unit[1:]))
                self._sequences[number] = sequence
            elif kind == _PPS:
                number, pictures = _read_picture_set(_Bits(unit[1:]))
                self._picture_sets[number] = pictures
                self.most_past = max(self.most_past, pictures.past)
        except UnknownHeader:
            pass  # slices that need it are unknown then

    def _slice_references(self, unit: bytes, kind: int) -> int:
        """Active entries of a slice's list 0."""
        bits = _Bits(unit[1:_HEADER_BYTES])
        bits.unsigned()
        slice_type = bits.unsigned() % 5
        if slice_type not in (_P, _B, _SP):
            return 0
        pictures = self._picture_sets[bits.unsigned()]
        sequence = self._sequences[pictures.sequence]
        if sequence.separate_planes:
            bits.take(2)
        bits.take(sequence.frame_number_bits)
        field = False
        if not sequence.frames_only:
            field = bool(bits.take(1))
            if field:
                bits.take(1)
        if kind == _IDR_SLICE:
            bits.unsigned()
        if sequence.order_type == 0:
            bits.take(sequence.order_bits)
            if pictures.bottom_order and not field:
                bits.skip_signed()
        elif sequence.order_type == 1 and not sequence.order_always_zero:
            bits.skip_signed()
            if pictures.bottom_order and not field:
                bits.skip_signed()
        if pictures.redundant_count:
            bits.unsigned()
        if slice_type == _B:
            bits.take(1)
        past = bits.unsigned() + 1 if bits.take(1) else pictures.past
        return -(-past // 2) if field else past


def _avcc_units(extradata: bytes) -> Iterator[bytes]:
    """Parameter sets of an AVCDecoderConfigurationRecord."""
    at = 5
    for mask in (31, 255):
        if at >= len(extradata):
            return
        count, at = extradata[at] & mask, at + 1
        for _ in range(count):
            size = int.from_bytes(extradata[at:at + 2], 'big')
            if size and at + 2 + size <= len(extradata):
                yield extradata[at + 2:at + 2 + size]
            at += 2 + size


def _length_units(packet: memoryview, length_size: int) -> Iterator[bytes]:
    """NAL units that each follow their length; the first bytes of each."""
    at, end = 0, len(packet)
    while at + length_size < end:
        size = int.from_bytes(packet[at:at + length_size], 'big')
        at += length_size
        if size:
            yield bytes(packet[at:at + min(size, _UNIT_BYTES)])
        at += size


def _start_code_units(data: bytes) -> Iterator[bytes]:
    """NAL units that follow start codes; the first bytes of each."""
    at = data.find(b'\0\0\1')
    while at >= 0:
        following = data.find(b'\0\0\1', at + 3)
        end = len(data) if following < 0 else following
        if at + 3 < end:
            yield data[at + 3:min(end, at + 3 + _UNIT_BYTES)]
        at = following
