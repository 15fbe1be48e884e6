// The explicit instances of the index family, included once at the end of each of its sources inside their namespace.
// clang-format off
#define RANVIER_GATHER(T, I)                                                                 \
  template int64_t gather(const GatherDims&, const T*, const I*, T*);                        \
  template int64_t one_hot(int64_t, int64_t, const I*, T*);
#define RANVIER_SCATTER(T, I) template int64_t scatter_add(const GatherDims&, const T*, const I*, T*);
#define RANVIER_EACH_TYPE(F) F(float) F(double) F(int32_t) F(int64_t)
#define RANVIER_MOVES(T) RANVIER_GATHER(T, int32_t) RANVIER_GATHER(T, int64_t) \
  template void argmax(int64_t, int64_t, int64_t, const T*, int32_t*);
#define RANVIER_SUMS(T) RANVIER_SCATTER(T, int32_t) RANVIER_SCATTER(T, int64_t) \
  template void pad_reflect_adjoint(const PadDims&, const T*, T*);
RANVIER_EACH_TYPE(RANVIER_MOVES) RANVIER_MOVES(uint8_t)
RANVIER_EACH_TYPE(RANVIER_SUMS)
#undef RANVIER_GATHER
#undef RANVIER_SCATTER
#undef RANVIER_EACH_TYPE
#undef RANVIER_MOVES
#undef RANVIER_SUMS
    // clang-format on
