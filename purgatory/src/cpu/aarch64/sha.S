// SHA-256 compress function with the SHA2 instructions (Arm ARM C7.2: SHA256H, SHA256H2, SHA256SU0, SHA256SU1), for one message
// and for two at once: an instruction waits for the one before it, and the other message's fill the gap.
//
// void purgatory_sha256(uint32_t state[8] /* x0 */, const uint8_t blocks[][64] /* x1 */, size_t count /* x2 */,
//                       const uint32_t k[64] /* x3 */)
// void purgatory_sha256_pair(the same, uint32_t second_state[8] /* x4 */, const uint8_t second_blocks[][64] /* x5 */)
//
//   v16..v31 the 64 constants
//   first:  v0 ABCD   v1 EFGH   v2 ABCD before the rounds   v3 what is added    v4..v7 the last sixteen message words
//   second: v8        v9        v10                         v11                 v12..v15

.arch_extension sha2
.pushsection .text.purgatory_sha256, "ax", %progbits

.macro SHA_CONSTANTS
	ld1	{v16.4s-v19.4s}, [x3], #64
	ld1	{v20.4s-v23.4s}, [x3], #64
	ld1	{v24.4s-v27.4s}, [x3], #64
	ld1	{v28.4s-v31.4s}, [x3]
.endm

.macro SHA_LOAD data, w0, w1, w2, w3
	ld1	{\w0\().16b-\w3\().16b}, [\data], #64
	rev32	\w0\().16b, \w0\().16b
	rev32	\w1\().16b, \w1\().16b
	rev32	\w2\().16b, \w2\().16b
	rev32	\w3\().16b, \w3\().16b
.endm

// Four rounds of the first message with words v\w and constants v\k, then of the second with words v\x.
.macro SHA_ROUNDS pair, k, w, x
	add	v3.4s, v\w\().4s, v\k\().4s
	mov	v2.16b, v0.16b
.if \pair
	add	v11.4s, v\x\().4s, v\k\().4s
	mov	v10.16b, v8.16b
.endif
	sha256h	q0, q1, v3.4s
.if \pair
	sha256h	q8, q9, v11.4s
.endif
	sha256h2	q1, q2, v3.4s
.if \pair
	sha256h2	q9, q10, v11.4s
.endif
.endm

// Words v\a become the ones after v\d.
.macro SHA_EXPAND a, b, c, d
	sha256su0	v\a\().4s, v\b\().4s
	sha256su1	v\a\().4s, v\c\().4s, v\d\().4s
.endm

.macro SHA_EXPANDED pair, k, a, b, c, d, e, f, g, h
	SHA_EXPAND \a, \b, \c, \d
.if \pair
	SHA_EXPAND \e, \f, \g, \h
.endif
	SHA_ROUNDS \pair, \k, \a, \e
.endm

.macro SHA_BLOCKS pair
	cbz	x2, 2f
	SHA_CONSTANTS
	ld1	{v0.4s, v1.4s}, [x0]
.if \pair
	ld1	{v8.4s, v9.4s}, [x4]
.endif
1:	SHA_LOAD x1, v4, v5, v6, v7
.if \pair
	SHA_LOAD x5, v12, v13, v14, v15
.endif
	SHA_ROUNDS \pair, 16, 4, 12
	SHA_ROUNDS \pair, 17, 5, 13
	SHA_ROUNDS \pair, 18, 6, 14
	SHA_ROUNDS \pair, 19, 7, 15
	SHA_EXPANDED \pair, 20, 4, 5, 6, 7, 12, 13, 14, 15
	SHA_EXPANDED \pair, 21, 5, 6, 7, 4, 13, 14, 15, 12
	SHA_EXPANDED \pair, 22, 6, 7, 4, 5, 14, 15, 12, 13
	SHA_EXPANDED \pair, 23, 7, 4, 5, 6, 15, 12, 13, 14
	SHA_EXPANDED \pair, 24, 4, 5, 6, 7, 12, 13, 14, 15
	SHA_EXPANDED \pair, 25, 5, 6, 7, 4, 13, 14, 15, 12
	SHA_EXPANDED \pair, 26, 6, 7, 4, 5, 14, 15, 12, 13
	SHA_EXPANDED \pair, 27, 7, 4, 5, 6, 15, 12, 13, 14
	SHA_EXPANDED \pair, 28, 4, 5, 6, 7, 12, 13, 14, 15
	SHA_EXPANDED \pair, 29, 5, 6, 7, 4, 13, 14, 15, 12
	SHA_EXPANDED \pair, 30, 6, 7, 4, 5, 14, 15, 12, 13
	SHA_EXPANDED \pair, 31, 7, 4, 5, 6, 15, 12, 13, 14
	ld1	{v2.4s, v3.4s}, [x0]
	add	v0.4s, v0.4s, v2.4s
	add	v1.4s, v1.4s, v3.4s
	st1	{v0.4s, v1.4s}, [x0]
.if \pair
	ld1	{v10.4s, v11.4s}, [x4]
	add	v8.4s, v8.4s, v10.4s
	add	v9.4s, v9.4s, v11.4s
	st1	{v8.4s, v9.4s}, [x4]
.endif
	subs	x2, x2, #1
	b.ne	1b
2:	ret
.endm

.globl purgatory_sha256
.p2align 4
purgatory_sha256:
	SHA_BLOCKS 0

.globl purgatory_sha256_pair
.p2align 4
purgatory_sha256_pair:
	SHA_BLOCKS 1
.popsection
