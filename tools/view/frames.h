// The binary frames that the server streams to a page: their layout, and the writer that both kinds share.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

// Little-endian, every value at a multiple of its size from the frame's start. page/frames.js reads the same layout.
//
// Header, 48 bytes
//   0  u32  magic, "RNV" and the version: 0x01564e52
//   4  u32  kind: 1 neuron, 2 population
//   8  u32  sequence: 1 more than the view's frame before; a gap means that frames were left out for a slow page
//  12  u32  revision: commands that are in effect
//  16  f64  time, ms
//  24  f64  speed that was reached, simulated over wall time
//  32  u32  flags: 1 running, 2 ended, 4 restarted since the frame before
//  36  u32  parts that follow: solvers, or populations
//  40  f64  input current at `time`
//
// Neuron part, 88 bytes and its columns
//   0  f64  time, v, u at the end, then v_min, v_max since the restart (5 values)
//  40  f64  where v is cut off, where it restarts: v_peak, c
//  56  u32  spikes since the restart
//  60  u32  flags: 1 diverged and held
//  64  f64  base: the time that offsets count from
//  72  u32  samples n
//  76  u32  spike times m
//  80  u64  0
//  88  f64  spike time [m];  then f32  offset of time [n], v [n], u [n];  then zeros up to a multiple of 8
//
// Population part, 104 bytes and its columns
//   0  f64  base: the time that offsets count from
//   8  u32  neurons;  12 u32 listed spikes m;  16 u32 spikes since the frame before;  20 u32 sheet values s
//  24  u32  rate bins r;  28 u32 histogram bins h (of each of the two)
//  32  f64  width of a rate bin, ms
//  40  f64  mean rate since the restart, Hz;  48 f64 highest rate of the histogram, Hz
//  56  f64  lowest and highest interval of the histogram, ms (equal bins of the logarithm)
//  72  f64  spikes since the restart
//  80  f64  seconds that a second of the model took, alone;  88 u32 excitatory neurons (the rest inhibits);  92 u32 0
//  96  f64  0
// 104  f32  rate [r], Hz;  u32 histogram of rates [h], of intervals [h];  f32 offset [m];  u32 neuron [m];
//      u8 sheet [s]: v from -90 mV (0) to 40 mV (255), neuron by neuron;  then zeros up to a multiple of 8

namespace ranvier::view {

using Bytes = std::vector<uint8_t>;
using Frame = std::shared_ptr<const Bytes>;

constexpr uint32_t frame_magic = 0x01564e52;
enum FrameKind : uint32_t { neuron_frame = 1, population_frame = 2 };
enum FrameFlag : uint32_t { frame_running = 1, frame_ended = 2, frame_restarted = 4 };
enum LaneFlag : uint32_t { lane_diverged = 1 };

static_assert(std::endian::native == std::endian::little, "frames are written as memory has them");

/// Appends values to a frame.
class FrameWriter {
 public:
  explicit FrameWriter(size_t room) { bytes_.reserve(room); }
  template <class T>
  void put(T value) {
    column(std::span<const T>(&value, 1));
  }
  template <class T>
  void column(std::span<const T> values) {
    const size_t at = bytes_.size();
    bytes_.resize(at + values.size_bytes());
    if (!values.empty()) std::memcpy(bytes_.data() + at, values.data(), values.size_bytes());
  }
  void align() { bytes_.resize((bytes_.size() + 7) / 8 * 8); }
  Frame finish() { return std::make_shared<const Bytes>(std::move(bytes_)); }

 private:
  Bytes bytes_;
};

/// What the header says.
struct FrameHeader {
  FrameKind kind;
  uint32_t sequence, revision;
  double time, speed;
  uint32_t flags, parts;
  double current;

  void write(FrameWriter& to) const {
    to.put(frame_magic), to.put<uint32_t>(kind), to.put(sequence), to.put(revision), to.put(time), to.put(speed);
    to.put(flags), to.put(parts), to.put(current);
  }
};

}  // namespace ranvier::view
