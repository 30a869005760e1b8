# x86_64: from the service kernel to the main kernel, and what happens when the CPU objects on the way.
#
# In:  64-bit mode, CPL 0, interrupts off, paging on with this segment mapped, CR4 = PAE [| LA57], no GDT or IDT to
#      rely on, 2 KiB of stack on a page that is not ours (the service kernel's relocate_kernel_64.S).
# Out: Documentation/arch/x86/boot.rst, "64-bit Boot Protocol": CS = 0x10, DS = ES = SS = 0x18, flat, our GDT; interrupts
#      off; identity mapping; RSI = zero page.

# Intel SDM, volume 3, 2.2.1 and 2.5: fields of the control registers.
.set IA32_EFER, 0xc0000080
.set EFER_NXE, 1 << 11
.set CR0_MP, 1 << 1
.set CR0_EM_TS, 1 << 2 | 1 << 3
.set CR0_WP, 1 << 16
.set CR4_OSFXSR_OSXMMEXCPT, 1 << 9 | 1 << 10
.set CR4_LA57, 1 << 12

.set CODE, 0x10				# selectors of the GDT below
.set DATA, 0x18
.set VECTORS, 32
.set GATE, 16				# bytes of one
.set INTERRUPT_GATE, 0x8e00		# present, level 0

.pushsection .params, "a", @progbits
.globl params
params:
	.quad	{magic}
	.long	{version}
	.skip	{params_size} - 12

.section .stack, "aw", @nobits
.p2align 4
	.skip	1024
exception_stack:		# grows down from here
	.skip	2*1024 + 496
stack:				# and so does this; what it does not have it takes from the exception's
idt:	.skip	VECTORS*GATE
faulted: .skip	4
left:	.skip	4

.section .rodata, "a", @progbits
.p2align 4
# The accessed bits are set: the CPU need not write to a page that is read-only.
gdt:	.quad	0, 0
	.quad	0x00af9b000000ffff	# CODE, 64 bit
	.quad	0x00cf93000000ffff	# DATA

.section .text.entry, "ax", @progbits
.globl purgatory_start
purgatory_start:
	cli
	cld
	rdtsc
	shl	rdx, 32
	lea	r15, [rdx + rax]	# when we were entered
	lea	rsp, [rip + stack]

	# Tables whose addresses are not known before now: a pointer to the GDT, and the gates.
	lea	rax, [rip + gdt]
	push	rax
	sub	rsp, 8
	mov	word ptr [rsp + 6], 4*8 - 1
	lgdt	[rsp + 6]
	lea	rdi, [rip + idt]
	mov	[rsp + 8], rdi
	mov	word ptr [rsp + 6], VECTORS*GATE - 1
	lea	rax, [rip + vectors]
	mov	ecx, VECTORS
1:	mov	edx, eax		# offset 15..0, selector
	and	edx, 0xffff
	or	edx, CODE << 16
	mov	[rdi], edx
	mov	edx, eax		# offset 31..16
	and	edx, 0xffff0000
	or	edx, INTERRUPT_GATE
	mov	[rdi + 4], edx
	mov	rdx, rax		# offset 63..32
	shr	rdx, 32
	mov	[rdi + 8], rdx
	add	rax, GATE
	add	rdi, GATE
	dec	ecx
	jnz	1b
	lidt	[rsp + 6]
	add	rsp, 16

	mov	eax, DATA
	mov	ds, eax
	mov	es, eax
	mov	ss, eax
	mov	fs, eax
	mov	gs, eax
	push	CODE
	lea	rax, [rip + 2f]
	push	rax
	retfq

	# EFER.NXE: our tables have no-execute bits. It is on already, unless the service kernel runs without.
2:	mov	ecx, IA32_EFER
	rdmsr
	or	eax, EFER_NXE
	wrmsr

	# CR0: WP on, so that read-only means it; TS and EM off, MP on. CR4: OSFXSR and OSXMMEXCPT, else SSE faults.
	mov	rax, cr0
	and	eax, ~CR0_EM_TS
	or	eax, CR0_WP | CR0_MP
	mov	cr0, rax
	mov	rcx, cr4
	or	ecx, CR4_OSFXSR_OSXMMEXCPT
	mov	cr4, rcx

	# Our page tables: four levels, then the root for five.
	lea	rax, [rip + tables]
	test	ecx, CR4_LA57
	jz	3f
	add	rax, 4096
3:	mov	cr3, rax

	mov	rdi, r15
	call	purgatory_main		# returns if all is well

	mov	rcx, cr4
	and	ecx, ~CR4_OSFXSR_OSXMMEXCPT
	mov	cr4, rcx
	mov	rax, cr0
	and	eax, ~CR0_WP
	mov	cr0, rax
	# From here to the main kernel's own IDT a fault is the main kernel's, and our gates say so.
	mov	dword ptr [rip + left], 1
	mov	rsi, [rip + params + {argument}]
	mov	rax, [rip + params + {entry}]
	xor	ebx, ebx
	xor	ecx, ecx
	xor	edx, edx
	xor	edi, edi
	xor	ebp, ebp
	xor	r8d, r8d
	xor	r9d, r9d
	xor	r10d, r10d
	xor	r11d, r11d
	xor	r12d, r12d
	xor	r13d, r13d
	xor	r14d, r14d
	xor	r15d, r15d
	jmp	rax

# 32 gates of 16 bytes. Each leaves the same on the stack: vector, error code (0 where the CPU pushes none), RIP, CS,
# RFLAGS, RSP, SS.
.macro WITHOUT_ERROR vector
	.p2align 4
	push	0
	push	\vector
	jmp	fault
.endm
.macro WITH_ERROR vector
	.p2align 4
	push	\vector
	jmp	fault
.endm
.p2align 4
vectors:
.irp n, 0, 1, 2, 3, 4, 5, 6, 7
	WITHOUT_ERROR \n
.endr
	WITH_ERROR 8
	WITHOUT_ERROR 9
.irp n, 10, 11, 12, 13, 14
	WITH_ERROR \n
.endr
	WITHOUT_ERROR 15
	WITHOUT_ERROR 16
	WITH_ERROR 17
.irp n, 18, 19, 20
	WITHOUT_ERROR \n
.endr
	WITH_ERROR 21
.irp n, 22, 23, 24, 25, 26, 27, 28
	WITHOUT_ERROR \n
.endr
	WITH_ERROR 29
	WITH_ERROR 30
	WITHOUT_ERROR 31

.p2align 4
fault:
	cld
	mov	eax, 1
	xchg	eax, [rip + faulted]
	test	eax, eax
	jnz	purgatory_triple_fault
	mov	rdi, rsp
	mov	rsi, cr2
	mov	edx, [rip + left]
	lea	rsp, [rip + exception_stack]
	call	purgatory_fault		# does not return

# The reset nothing can refuse: an exception without an IDT.
.globl purgatory_triple_fault
purgatory_triple_fault:
	push	0
	push	0
	lidt	[rsp]
	ud2
.popsection
