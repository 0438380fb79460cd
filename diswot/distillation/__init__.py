"""The distillation recipe: plan, context, teachers, students, result; and the comparison of students."""
